# Runs as a job inside the machine and tells what it sees: lines `@@ NAME text`, put together again by the test.
tell() { { cat; echo; } | sed "/^$/d; s/^/@@ $1 /"; }
slice=/sys/fs/cgroup/cellinit.slice

cat /sys/fs/cgroup/cgroup.controllers | tell controllers
cat $slice/web/memory.max | tell memory.max
cat $slice/web/pids.max | tell pids.max
cat /proc/1/comm | tell pid1
cat /proc/sys/kernel/hostname | tell hostname
# nice, of PID 1 and of a unit.
sed 's/.*) //' /proc/1/stat /proc/self/stat | cut -d ' ' -f 17 | tr '\n' ' ' | tell nice
# The hard limits of descriptors, of both again.
sed -n 's/^Max open files *[0-9]* *\([0-9]*\) .*/\1/p' /proc/1/limits /proc/self/limits | tr '\n' ' ' | tell descriptors
ls /proc/1/task | wc -l | tell threads
# The state field follows the name in parentheses.
sed -n 's/.*) \([A-Z]\) .*/\1/p' /proc/[0-9]*/stat 2>/dev/null | grep -c Z | tell zombies
tries=0
until cell status greedy --json | grep -q '"failed"' || [ $tries = 300 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
cell status --json | fold -w 200 | tell status
cell status greedy --json | fold -w 200 | tell greedy
cell why greedy 2>&1 | tell greed
cell status web --json | fold -w 200 | tell web
cell why demanding 2>&1 | tell why
poweroff
