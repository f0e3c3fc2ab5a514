// The first program of a machine: it notes the moment, becomes the init that is named, and says on the console how long that
// init took until COUNT services were up. Then it switches the machine off.
//
//   stamp COUNT PIPE PROGRAM NAME              executes PROGRAM, under the name NAME (busybox goes by it)
//   stamp COUNT PIPE PROGRAM --floor           is no init: starts PROGRAM PIPE as often as that, and waits
//
// The services write a line each into PIPE, which is made here. Who reads it is a process that was there before the init: it
// belongs to none of its units, and takes no time until a line comes.
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static long moment(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

// The first line is the beginning; each other one has the moment at which a service's main() began.
static void report(int lines, int pipe) {
    static char text[1 << 16];
    size_t size = 0;
    int seen = 0;
    while (seen <= lines) {
        ssize_t got = read(pipe, text + size, sizeof text - 1 - size);
        if (got <= 0) break;
        for (ssize_t i = 0; i < got; i++) seen += text[size + i] == '\n';
        size += got;
    }
    long began = strtol(text, NULL, 10), last = 0;
    for (char *line = strchr(text, '\n'); line && line[1]; line = strchr(line + 1, '\n')) {
        long up = strtol(line + 1, NULL, 10);
        if (up > last) last = up;
    }
    printf("\n@@ boot %ld\n", last - began);
    fflush(stdout);
    sleep(1);
    reboot(RB_POWER_OFF);
    _exit(1);
}

static void floor_of(int count, char *program, char *path) {
    char *arguments[] = {program, path, NULL};
    for (int i = 0; i < count; i++) {
        if (vfork() == 0) {
            setsid();
            execv(program, arguments);
            _exit(127);
        }
    }
    for (;;) pause();
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    int count = atoi(argv[1]);
    mkfifo(argv[2], 0666);
    // A cell's user is nobody's owner; the umask does not matter then.
    chmod(argv[2], 0666);
    // For both ways: a pipe with a reader and no writer would be at its end.
    int pipe = open(argv[2], O_RDWR | O_CLOEXEC);
    if (pipe < 0) return 1;
    if (fork() == 0) {
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, NULL);
        report(count, pipe);
    }
    char line[32];
    int size = snprintf(line, sizeof line, "%ld\n", moment());
    if (write(pipe, line, size) != size) return 1;
    if (strcmp(argv[4], "--floor") == 0) floor_of(count, argv[3], argv[2]);
    char *arguments[] = {argv[4], NULL};
    execv(argv[3], arguments);
    return 1;
}
