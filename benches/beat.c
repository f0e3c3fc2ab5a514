// A service that says when its main() began: one line "MONOTONIC-NANOSECONDS PID" into the file named, then it waits for ever.
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    char line[64];
    int size = snprintf(line, sizeof line, "%ld %d\n", t.tv_sec * 1000000000L + t.tv_nsec, (int)getpid());
    int fd = open(argc > 1 ? argv[1] : "/dev/null", O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0 || write(fd, line, size) != size) return 1;
    for (;;) pause();
}
