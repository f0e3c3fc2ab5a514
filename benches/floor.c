// The floor: what the kernel alone asks for a cell of the default profile, in plain C, with nothing around it.
//
// It stays resident, and for each line on stdin makes one cell around PROGRAM, waits for its end, tears it down and prints the
// nanoseconds. The work is the same as a default cell's: one clone into new mount, pid and cgroup namespaces and a cgroup,
// the host's tree copied read-only, /proc, /dev, /sys, /tmp, /var/tmp, /run, /home, /root, masked paths, pivot_root, a prepared
// user namespace, new net, uts and ipc namespaces, lo up, hostname, limits, ids, capabilities, no_new_privs, a given seccomp program, execve.
//
//   floor PROGRAM SECCOMP.BPF CGROUP2-DIR|- TEMPLATE-DEV TEMPLATE-SYS
//   floor --bare PROGRAM            vfork and exec only: the floor of an unconfined restart
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// <sys/mount.h> does not go together with <linux/mount.h> on Debian 12.
#define MNT_DETACH 2
#ifndef MS_PRIVATE
#define MS_PRIVATE (1 << 18)
#endif
#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

static void must(int ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
        _exit(99);
    }
}

static long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

static void put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    must(fd >= 0, path);
    must(write(fd, text, strlen(text)) == (ssize_t)strlen(text), path);
    close(fd);
}

// A user namespace made ahead and kept by descriptor, as the supervisor does.
static int user_namespace(void) {
    struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
    long pid = syscall(SYS_clone3, &args, sizeof args);
    must(pid >= 0, "clone3(CLONE_NEWUSER)");
    if (pid == 0) {
        pause();
        _exit(0);
    }
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/uid_map", pid);
    put(path, "0 524288 65536\n");
    snprintf(path, sizeof path, "/proc/%ld/gid_map", pid);
    put(path, "0 524288 65536\n");
    snprintf(path, sizeof path, "/proc/%ld/ns/user", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    must(fd >= 0, path);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return fd;
}

static void attach(int mount, int root, const char *target) {
    int at = openat(root, target, O_PATH | O_CLOEXEC | O_NOFOLLOW);
    must(at >= 0, target);
    must(syscall(SYS_move_mount, mount, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) == 0, target);
    close(at);
    close(mount);
}

static void fresh(int root, const char *type, const char *target, const char *options[][2], unsigned attributes) {
    int fs = syscall(SYS_fsopen, type, 1 /* FSOPEN_CLOEXEC */);
    must(fs >= 0, type);
    for (int i = 0; options && options[i][0]; i++)
        must(syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, options[i][0], options[i][1], 0) == 0, options[i][0]);
    must(syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0, type);
    int mount = syscall(SYS_fsmount, fs, 1 /* FSMOUNT_CLOEXEC */, attributes);
    must(mount >= 0, type);
    close(fs);
    attach(mount, root, target);
}

static void bind_into(int root, const char *source, const char *target, int recursive, unsigned long attributes) {
    int tree = syscall(SYS_open_tree, AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? AT_RECURSIVE : 0));
    must(tree >= 0, source);
    struct mount_attr set = {.attr_set = attributes};
    must(syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &set, sizeof set) == 0, source);
    attach(tree, root, target);
}

static const char *MASKED[] = {"/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
                               "/proc/scsi", "/proc/timer_list", NULL};
static const char *READONLY[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", NULL};

struct cell {
    char *program, *dev, *sys;
    int user_namespace;
    struct sock_fprog filter;
};

static void become(struct cell *cell) {
    const unsigned quiet = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    const char *rw[][2] = {{"mode", "1777"}, {NULL, NULL}}, *ro[][2] = {{"mode", "0755"}, {NULL, NULL}};
    const char *pts[][2] = {{"ptmxmode", "0666"}, {"mode", "0620"}, {NULL, NULL}};
    must(setsid() >= 0, "setsid");
    prctl(PR_SET_DUMPABLE, 0);
    struct mount_attr private = {.propagation = MS_PRIVATE};
    must(syscall(SYS_mount_setattr, AT_FDCWD, "/", AT_RECURSIVE, &private, sizeof private) == 0, "make private");
    int root = syscall(SYS_open_tree, AT_FDCWD, "/", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
    must(root >= 0, "open_tree");
    struct mount_attr sealed = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};
    must(syscall(SYS_mount_setattr, root, "", AT_EMPTY_PATH | AT_RECURSIVE, &sealed, sizeof sealed) == 0, "mount_setattr");
    must(syscall(SYS_move_mount, root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) == 0, "move_mount root");
    fresh(root, "proc", "proc", NULL, quiet);
    bind_into(root, cell->dev, "dev", 0, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    fresh(root, "devpts", "dev/pts", pts, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    fresh(root, "tmpfs", "dev/shm", rw, quiet);
    bind_into(root, cell->sys, "sys", 1, MOUNT_ATTR_RDONLY | quiet);
    fresh(root, "tmpfs", "tmp", rw, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    fresh(root, "tmpfs", "var/tmp", rw, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    fresh(root, "tmpfs", "run", ro, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    fresh(root, "tmpfs", "home", ro, MOUNT_ATTR_RDONLY | quiet);
    fresh(root, "tmpfs", "root", ro, MOUNT_ATTR_RDONLY | quiet);
    struct stat there;
    for (int i = 0; MASKED[i]; i++) {
        if (fstatat(root, MASKED[i] + 1, &there, 0)) continue;
        if (S_ISDIR(there.st_mode)) fresh(root, "tmpfs", MASKED[i] + 1, ro, MOUNT_ATTR_RDONLY | quiet);
        else bind_into(root, "/dev/null", MASKED[i] + 1, 0, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    }
    must(fchdir(root) == 0, "fchdir");
    must(syscall(SYS_pivot_root, ".", ".") == 0, "pivot_root");
    must(syscall(SYS_umount2, ".", MNT_DETACH) == 0, "umount2");
    must(chdir("/") == 0, "chdir");
    for (int i = 0; READONLY[i]; i++) {
        if (stat(READONLY[i], &there)) continue;
        bind_into(AT_FDCWD, READONLY[i], READONLY[i], 1, MOUNT_ATTR_RDONLY);
    }
    must(setns(cell->user_namespace, CLONE_NEWUSER) == 0, "setns");
    must(unshare(CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC) == 0, "unshare");
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    must(ioctl(s, SIOCSIFFLAGS, &lo) == 0, "lo up");
    must(sethostname("floor", 5) == 0, "sethostname");
    struct rlimit files = {1024, 1024}, core = {0, 0};
    setrlimit(RLIMIT_NOFILE, &files);
    setrlimit(RLIMIT_CORE, &core);
    must(setgroups(0, NULL) == 0, "setgroups");
    must(setresgid(61184, 61184, 61184) == 0, "setresgid");
    must(setresuid(61184, 61184, 61184) == 0, "setresuid");
    for (int c = 0; prctl(PR_CAPBSET_DROP, c, 0, 0, 0) == 0; c++) {}
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {0};
    must(syscall(SYS_capset, &head, none) == 0, "capset");
    syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC);
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs");
    must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &cell->filter) == 0, "seccomp");
    char *argv[] = {cell->program, NULL}, *envp[] = {"PATH=/usr/bin:/bin", NULL};
    execve(cell->program, argv, envp);
    must(0, "execve");
}

int main(int argc, char **argv) {
    char line[16];
    if (argc == 3 && !strcmp(argv[1], "--bare")) {
        while (fgets(line, sizeof line, stdin)) {
            long start = now();
            pid_t pid = vfork();
            if (pid == 0) {
                char *args[] = {argv[2], NULL};
                execve(argv[2], args, NULL);
                _exit(99);
            }
            waitpid(pid, NULL, 0);
            printf("%ld\n", now() - start);
            fflush(stdout);
        }
        return 0;
    }
    if (argc != 6) {
        fprintf(stderr, "usage: floor PROGRAM SECCOMP.BPF CGROUP2-DIR|- DEV SYS\n");
        return 2;
    }
    static struct sock_filter code[4096];
    int fd = open(argv[2], O_RDONLY | O_CLOEXEC);
    must(fd >= 0, argv[2]);
    ssize_t size = read(fd, code, sizeof code);
    must(size > 0, argv[2]);
    struct cell cell = {argv[1], argv[4], argv[5], user_namespace(), {(unsigned short)(size / sizeof *code), code}};
    char node[4096];
    snprintf(node, sizeof node, "%s/floor", argv[3]);
    int v2 = strcmp(argv[3], "-") != 0;
    while (fgets(line, sizeof line, stdin)) {
        long start = now();
        struct clone_args args = {.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWCGROUP, .exit_signal = SIGCHLD};
        int group = -1;
        if (v2) {
            must(mkdir(node, 0755) == 0, node);
            group = open(node, O_PATH | O_DIRECTORY | O_CLOEXEC);
            args.flags |= CLONE_INTO_CGROUP;
            args.cgroup = group;
        }
        long pid = syscall(SYS_clone3, &args, sizeof args);
        must(pid >= 0, "clone3");
        if (pid == 0) become(&cell);
        int status;
        waitpid(pid, &status, 0);
        if (v2) {
            close(group);
            while (rmdir(node) && errno == EBUSY) {}
        }
        if (status) {
            fprintf(stderr, "floor: the program ended with status %x\n", status);
            return 1;
        }
        printf("%ld\n", now() - start);
        fflush(stdout);
    }
    return 0;
}
