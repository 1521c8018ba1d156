/* Clock, epoll and TCP on 127.0.0.1, without waiting anywhere but in `wait_for`. */
#ifndef SOCKETS_H
#define SOCKETS_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

#include "buffer.h"

enum { NANOSECONDS = 1000 * 1000 * 1000, WAIT_FOREVER = -1, CLOSED = -1, LISTEN_BACKLOG = 4096 };

static inline int64_t clock_ns(clockid_t clock) {
    struct timespec now;
    if (clock_gettime(clock, &now) < 0)
        die("can't read the clock: %s", strerror(errno));
    return (int64_t)now.tv_sec * NANOSECONDS + now.tv_nsec;
}

static inline int64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

static inline int new_poll(void) {
    int poll = epoll_create1(EPOLL_CLOEXEC);
    if (poll < 0)
        die("can't make an epoll: %s", strerror(errno));
    /* The kernel wakes a sleeper up to 50 µs late unless told otherwise. */
    if (prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0) < 0)
        die("can't set the timer slack: %s", strerror(errno));
    return poll;
}

static inline void watch(int poll, int operation, int fd, uint32_t events, void *who) {
    struct epoll_event event = {.events = events, .data.ptr = who};
    if (epoll_ctl(poll, operation, fd, &event) < 0)
        die("can't wait for descriptor %d: %s", fd, errno == EPERM ? "it is a file" : strerror(errno));
}

/* What has happened, none of it after so many nanoseconds. */
static inline int wait_for(int poll, struct epoll_event *events, int most, int64_t wait_ns) {
    struct timespec wait = {.tv_sec = wait_ns / NANOSECONDS, .tv_nsec = wait_ns % NANOSECONDS};
    int count = epoll_pwait2(poll, events, most, wait_ns < 0 ? NULL : &wait, NULL);
    if (count < 0 && errno != EINTR)
        die("can't wait: %s", errno == ENOSYS ? "this needs Linux 5.11 or newer" : strerror(errno));
    return count < 0 ? 0 : count;
}

static inline struct sockaddr_in loopback(int port) {
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static inline void send_at_once(int fd) {
    int on = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0)
        die("can't set TCP_NODELAY: %s", strerror(errno));
}

/* Listens at the port, or at any that is free if it is 0; dies if it is taken. */
static inline int listen_at(int port) {
    struct sockaddr_in address = loopback(port);
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, LISTEN_BACKLOG) < 0)
        die("can't listen at port %d: %s", port, strerror(errno));
    return fd;
}

static inline int port_of(int fd) {
    struct sockaddr_in address;
    socklen_t len = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &len) < 0)
        die("can't tell the port: %s", strerror(errno));
    return ntohs(address.sin_port);
}

/* A connection that is being made, or CLOSED with errno. */
static inline int connect_to(int port) {
    struct sockaddr_in address = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return CLOSED;
    send_at_once(fd);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS) {
        int reason = errno;
        close(fd);
        errno = reason;
        return CLOSED;
    }
    return fd;
}

/* How many bytes went into the socket: 0 if it is full, -1 if it is broken. */
static inline ssize_t send_some(int fd, struct span span) {
    for (;;) {
        ssize_t sent = send(fd, span.at, span.len, MSG_NOSIGNAL);
        if (sent >= 0)
            return sent;
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return 0;
        if (errno != EINTR)
            return -1;
    }
}

enum { NOTHING_YET = -1, BROKEN = -2 };

/* How many bytes came: 0 at the end, NOTHING_YET, or BROKEN. */
static inline ssize_t receive_some(int fd, char *bytes, size_t room) {
    for (;;) {
        ssize_t got = recv(fd, bytes, room, 0);
        if (got >= 0)
            return got;
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return NOTHING_YET;
        if (errno != EINTR)
            return BROKEN;
    }
}

#endif
