/* When each of many is due: a binary heap, so that the next one costs the logarithm of how many there are. */
#ifndef DUE_HEAP_H
#define DUE_HEAP_H

#include "buffer.h"

#define NOT_DUE SIZE_MAX

/* A part of what is due; `place` is where in the heap it is, NOT_DUE if it is not in it. */
struct due {
    int64_t at_ns;
    size_t place;
};

struct due_heap {
    struct due **places;
    size_t len, capacity;
};

static inline void heap_set(struct due_heap *heap, size_t place, struct due *due) {
    heap->places[place] = due;
    due->place = place;
}

static inline void heap_rise(struct due_heap *heap, struct due *due) {
    size_t place = due->place;
    while (place > 0 && heap->places[(place - 1) / 2]->at_ns > due->at_ns) {
        heap_set(heap, place, heap->places[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    heap_set(heap, place, due);
}

static inline void heap_sink(struct due_heap *heap, struct due *due) {
    size_t place = due->place;
    for (;;) {
        size_t child = 2 * place + 1;
        if (child + 1 < heap->len && heap->places[child + 1]->at_ns < heap->places[child]->at_ns)
            child++;
        if (child >= heap->len || heap->places[child]->at_ns >= due->at_ns)
            break;
        heap_set(heap, place, heap->places[child]);
        place = child;
    }
    heap_set(heap, place, due);
}

static inline void heap_add(struct due_heap *heap, struct due *due) {
    if (heap->len == heap->capacity) {
        heap->capacity = heap->capacity > 0 ? 2 * heap->capacity : 64;
        heap->places = realloc(heap->places, heap->capacity * sizeof *heap->places);
        if (heap->places == NULL)
            die("no memory for %zu streams", heap->capacity);
    }
    due->place = heap->len++;
    heap_rise(heap, due);
}

static inline void heap_remove(struct due_heap *heap, struct due *due) {
    if (due->place == NOT_DUE)
        return;
    struct due *last = heap->places[--heap->len];
    if (last != due) {
        last->place = due->place;
        heap_rise(heap, last);
        heap_sink(heap, last);
    }
    due->place = NOT_DUE;
}

#endif
