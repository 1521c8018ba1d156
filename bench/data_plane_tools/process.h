/* What both programs do as processes: die with a message, read numbers of the command line, have enough descriptors,
 * and end in order on a signal. */
#ifndef PROCESS_H
#define PROCESS_H

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { EXIT_BAD_ARGUMENTS = 2, EXIT_SIGNALLED = 128 };

static inline void complain(const char *format, va_list arguments) {
    fprintf(stderr, "%s: ", program_invocation_short_name);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
}

__attribute__((format(printf, 1, 2), noreturn)) static inline void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    complain(format, arguments);
    va_end(arguments);
    exit(EXIT_FAILURE);
}

__attribute__((format(printf, 1, 2), noreturn)) static inline void refuse_arguments(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    complain(format, arguments);
    va_end(arguments);
    fprintf(stderr, "try --help\n");
    exit(EXIT_BAD_ARGUMENTS);
}

static inline double decimal_option(const char *name, const char *text, double least, double most) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(value) || value < least || value > most)
        refuse_arguments("--%s: %s is not a number from %g to %g", name, text, least, most);
    return value;
}

static inline long whole_option(const char *name, const char *text, long least, long most) {
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < least || value > most)
        refuse_arguments("--%s: %s is not a whole number from %ld to %ld", name, text, least, most);
    return value;
}

/* The soft limit is often 1,024, the hard one is what a machine really allows. Returns how many there are. */
static inline size_t allow_all_descriptors(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        die("can't read the limit of descriptors: %s", strerror(errno));
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        die("can't raise the limit of descriptors: %s", strerror(errno));
    return (size_t)limit.rlim_cur;
}

/* A descriptor that SIGINT and SIGTERM are read from, so that they are one more thing the loop waits for. */
static inline int signals_as_descriptor(void) {
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    if (sigprocmask(SIG_BLOCK, &ends, NULL) < 0)
        die("can't block signals: %s", strerror(errno));
    int fd = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        die("can't read signals: %s", strerror(errno));
    return fd;
}

/* Exit status after the signal that has come. */
static inline int signalled_status(int fd) {
    struct signalfd_siginfo signal;
    if (read(fd, &signal, sizeof signal) != (ssize_t)sizeof signal)
        die("can't read a signal: %s", strerror(errno));
    return EXIT_SIGNALLED + (int)signal.ssi_signo;
}

#endif
