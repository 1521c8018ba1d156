/* Latencies, kept as a histogram: as exact after a minute as after an hour, in the same memory. */
#ifndef LATENCY_H
#define LATENCY_H

#include "buffer.h"

/* A power of two is cut in so many equal parts: a percentile is right to 1/256. */
enum { PART_BITS = 7, PARTS = 1 << PART_BITS, BINS = (64 - PART_BITS) * PARTS };

struct latencies {
    uint64_t bins[BINS];
    uint64_t count, max_ns;
    double sum_ns;
};

/* Below PARTS each value has its bin, above it shares the bin with those of the same first bits. */
static inline size_t bin_of(uint64_t ns) {
    if (ns < PARTS)
        return (size_t)ns;
    unsigned shift = 63U - (unsigned)__builtin_clzll(ns) - PART_BITS;
    return (size_t)((shift + 1) * PARTS + ((ns >> shift) - PARTS));
}

/* The middle of what the bin holds. */
static inline double bin_ns(size_t bin) {
    if (bin < PARTS)
        return (double)bin;
    unsigned shift = (unsigned)(bin / PARTS) - 1;
    uint64_t first = (uint64_t)(bin % PARTS + PARTS) << shift;
    return (double)first + (double)((UINT64_C(1) << shift) - 1) / 2;
}

static inline void latencies_clear(struct latencies *latencies) { memset(latencies, 0, sizeof *latencies); }

static inline void latencies_add(struct latencies *latencies, int64_t ns) {
    uint64_t value = ns > 0 ? (uint64_t)ns : 0;
    latencies->bins[bin_of(value)]++;
    latencies->count++;
    latencies->sum_ns += (double)value;
    if (value > latencies->max_ns)
        latencies->max_ns = value;
}

static inline double percentile_ns(const struct latencies *latencies, double share) {
    double wanted = share * (double)latencies->count, most = (double)latencies->max_ns;
    uint64_t seen = 0;
    for (size_t bin = 0; bin < BINS; bin++) {
        seen += latencies->bins[bin];
        if (seen > 0 && (double)seen >= wanted)
            return bin_ns(bin) < most ? bin_ns(bin) : most;
    }
    return most;
}

/* As JSON, in microseconds; null if there is none. */
static inline void latencies_print(const struct latencies *latencies, FILE *out) {
    if (latencies->count == 0) {
        fputs("null", out);
        return;
    }
    fprintf(out, "{\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f,\"mean\":%.1f}",
            percentile_ns(latencies, 0.5) / 1e3, percentile_ns(latencies, 0.9) / 1e3,
            percentile_ns(latencies, 0.99) / 1e3, percentile_ns(latencies, 0.999) / 1e3,
            (double)latencies->max_ns / 1e3, latencies->sum_ns / (double)latencies->count / 1e3);
}

#endif
