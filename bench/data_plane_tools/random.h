/* Random numbers, the same in each run. */
#ifndef RANDOM_H
#define RANDOM_H

#include <stdint.h>

/* From 0 up to 1, by xorshift; the state must not be 0. */
static inline double next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (double)(*state >> 11) * 0x1p-53;
}

#endif
