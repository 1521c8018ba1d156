/* What the upstream has done so far. */
#ifndef COUNTS_H
#define COUNTS_H

#include "sockets.h"

/* Events are skipped where a client's socket is full, and missed where the upstream itself is late. */
struct counts {
    uint64_t requests, others, events, skipped, missed;
};

static inline void put_stats(struct buffer *text, const struct counts *counts, size_t streams, int64_t cpu_ns) {
    buffer_printf(text,
                  "{\"streams\":%zu,\"requests\":%llu,\"others\":%llu,\"events\":%llu,\"skipped\":%llu,"
                  "\"missed\":%llu,\"cpu_seconds\":%.6f}\n",
                  streams, (unsigned long long)counts->requests, (unsigned long long)counts->others,
                  (unsigned long long)counts->events, (unsigned long long)counts->skipped,
                  (unsigned long long)counts->missed, (double)cpu_ns / NANOSECONDS);
}

#endif
