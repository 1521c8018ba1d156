/* Bytes that grow as needed. */
#ifndef BUFFER_H
#define BUFFER_H

#include <stdbool.h>
#include <strings.h>

#include "process.h"

struct buffer {
    char *bytes;
    size_t len, capacity;
};

/* Some bytes of others. */
struct span {
    const char *at;
    size_t len;
};

/* A literal as one: in a table, and anywhere else. */
#define SPAN_OF(literal) {literal, sizeof(literal) - 1}
#define SPAN(literal) ((struct span)SPAN_OF(literal))

static inline struct span span_of(const struct buffer *buffer) { return (struct span){buffer->bytes, buffer->len}; }

/* `memmem` for spans that may be empty; NULL if it is not there. */
static inline const char *span_find(struct span span, struct span wanted) {
    return span.len < wanted.len ? NULL : memmem(span.at, span.len, wanted.at, wanted.len);
}

static inline bool span_is(struct span span, struct span wanted) {
    return span.len == wanted.len && memcmp(span.at, wanted.at, span.len) == 0;
}

/* The same but for upper and lower case. */
static inline bool span_is_like(struct span span, struct span wanted) {
    return span.len == wanted.len && strncasecmp(span.at, wanted.at, span.len) == 0;
}

/* Whether it is anywhere in it, in upper or lower case. */
static inline bool span_has_like(struct span span, struct span wanted) {
    for (; span.len >= wanted.len; span.at++, span.len--)
        if (strncasecmp(span.at, wanted.at, wanted.len) == 0)
            return true;
    return false;
}

/* Makes room for as many bytes more. */
static inline void buffer_reserve(struct buffer *buffer, size_t more) {
    size_t needed = buffer->len + more;
    if (needed <= buffer->capacity)
        return;
    size_t capacity = buffer->capacity * 2 > needed ? buffer->capacity * 2 : needed;
    char *bytes = realloc(buffer->bytes, capacity);
    if (bytes == NULL)
        die("no memory for %zu bytes", capacity);
    buffer->bytes = bytes;
    buffer->capacity = capacity;
}

static inline void buffer_put(struct buffer *buffer, struct span span) {
    if (span.len == 0)
        return;
    buffer_reserve(buffer, span.len);
    memcpy(buffer->bytes + buffer->len, span.at, span.len);
    buffer->len += span.len;
}

static inline void buffer_fill(struct buffer *buffer, char byte, size_t count) {
    if (count == 0)
        return;
    buffer_reserve(buffer, count);
    memset(buffer->bytes + buffer->len, byte, count);
    buffer->len += count;
}

/* A number of at least so many digits. printf would be a fifth of what an event costs. */
static inline void buffer_put_number(struct buffer *buffer, uint64_t number, size_t least_digits) {
    char digits[32];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0 || (sizeof digits - at < least_digits && at > 0));
    buffer_put(buffer, (struct span){digits + at, sizeof digits - at});
}

__attribute__((format(printf, 2, 3))) static inline void buffer_printf(struct buffer *buffer, const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int len = vsnprintf(NULL, 0, format, arguments);
    if (len < 0)
        die("can't format %s", format);
    /* One more for the zero that vsnprintf ends with. */
    buffer_reserve(buffer, (size_t)len + 1);
    vsnprintf(buffer->bytes + buffer->len, (size_t)len + 1, format, again);
    buffer->len += (size_t)len;
    va_end(again);
    va_end(arguments);
}

/* Takes the first bytes away. */
static inline void buffer_drop(struct buffer *buffer, size_t count) {
    buffer->len -= count;
    if (buffer->len > 0)
        memmove(buffer->bytes, buffer->bytes + count, buffer->len);
}

static inline void buffer_free(struct buffer *buffer) {
    free(buffer->bytes);
    *buffer = (struct buffer){0};
}

#endif
