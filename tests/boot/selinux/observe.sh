# Runs as a job inside the machine and tells what it sees: lines `@@ NAME text`, put together again by the test.
tell() { { cat; echo; } | sed "/^$/d; s/^/@@ $1 /"; }

sleep 2
tr -d '\000' < /proc/1/attr/current | tell pid1
cat /sys/fs/selinux/enforce | tell enforce
for unit in alice bob demanding; do
    cell status $unit --json | fold -w 200 | tell $unit
done
cell logs bob | fold -w 200 | tell log
dmesg | grep 'avc:.*denied' | grep of-alice | tell denied
dmesg | grep 'avc:.*denied' | grep fifo_file | tell pipes
poweroff
