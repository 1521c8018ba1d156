/* What the command line of `load` asks for. */
#ifndef LOAD_H
#define LOAD_H

#include "channel.h"
#include "latency.h"

enum { READ_BYTES = 256 * 1024, WAKE_UPS = 512 };

struct task {
    int port;
    struct requests requests;
    double patience_seconds;
    /* Streams that are held. */
    size_t streams, ramp;
    /* Short requests: for some time, or so many. */
    size_t connections, count;
    double seconds, warm_up_seconds, rate;
};

static inline int64_t to_ns(double seconds) { return (int64_t)(seconds * NANOSECONDS); }

static inline const struct buffer *request_of(const struct task *task, size_t place) {
    return &task->requests.texts[place % task->requests.count];
}

/* A line of results is read while this goes on. */
static inline void end_line(void) {
    putchar('\n');
    if (fflush(stdout) != 0)
        die("can't write: %s", strerror(errno));
}

#endif
