// Prints the functions that a program executes, in the order of their first steps; its symbols come in on stdin as
// "ADDRESS SIZE NAME", sorted by address. One thread, step by step: half a minute for a start of cell-wasm.
//
//   nm ... | trace PROGRAM [ARGUMENT...]
//
// With HTTP in the environment descriptor 3 is a listener, and one request is made; the program is killed after its answer.
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

static struct symbol {
    unsigned long start, size;
    char *name;
    int seen;
} *symbols;
static size_t count;

static void read_symbols(void) {
    static char name[1 << 16];
    unsigned long start, size;
    size_t room = 0;
    while (scanf("%lx %lx %65535s", &start, &size, name) == 3) {
        if (count == room && !(symbols = realloc(symbols, (room = room * 2 + 1024) * sizeof *symbols))) exit(1);
        symbols[count++] = (struct symbol){start, size, strdup(name), 0};
    }
}

static void step_at(unsigned long address) {
    static struct symbol *last;
    if (last && address - last->start < last->size) return;
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (symbols[middle].start <= address) low = middle + 1;
        else high = middle;
    }
    if (!low) return;
    last = &symbols[low - 1];
    if (address - last->start < last->size && !last->seen++) printf("%lu %s\n", last->size, last->name);
}

// A client for the traced program's listener. It ends the trace when it has its answer.
static void request(const struct sockaddr_in *address, pid_t program) {
    char answer[4096];
    int connection = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(connection, (const struct sockaddr *)address, sizeof *address)) _exit(1);
    dprintf(connection, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    while (read(connection, answer, sizeof answer) > 0) {}
    kill(program, SIGKILL);
    _exit(0);
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    read_symbols();
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int http = getenv("HTTP") != NULL, listener = -1;
    if (http) {
        listener = socket(AF_INET, SOCK_STREAM, 0);
        if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 8)) return 1;
        getsockname(listener, (struct sockaddr *)&address, &length);
    }
    pid_t program = fork();
    if (!program) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0), dup2(null, 1), dup2(null, 2);
        if (http) dup2(listener, 3);
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        execv(argv[1], argv + 1);
        _exit(127);
    }
    if (http && !fork()) request(&address, program);
    int status;
    while (waitpid(program, &status, 0) == program && WIFSTOPPED(status)) {
        step_at(ptrace(PTRACE_PEEKUSER, program, offsetof(struct user_regs_struct, rip), 0));
        int signal = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
        ptrace(PTRACE_SINGLESTEP, program, 0, signal);
    }
    return fflush(stdout) != 0;
}
