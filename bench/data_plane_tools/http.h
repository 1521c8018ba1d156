/* HTTP/1.1 as far as both sides need it: what a head says of the body after it, and chunked bodies. */
#ifndef HTTP_H
#define HTTP_H

#include "buffer.h"

struct head {
    struct span first_line;
    uint64_t length;
    bool has_length, chunked, close;
};

/* The length of the head with its blank line, 0 if that has not come. Looked for from `from` on. */
static inline size_t head_length(struct span bytes, size_t from) {
    struct span rest = {bytes.at + from, bytes.len - from};
    const char *end = span_find(rest, SPAN("\r\n\r\n"));
    return end == NULL ? 0 : (size_t)(end - bytes.at) + 4;
}

static inline struct span trimmed(struct span span) {
    while (span.len > 0 && (span.at[0] == ' ' || span.at[0] == '\t'))
        span.at++, span.len--;
    while (span.len > 0 && (span.at[span.len - 1] == ' ' || span.at[span.len - 1] == '\t'))
        span.len--;
    return span;
}

static inline bool read_length(struct span digits, uint64_t *length) {
    enum { MOST_DIGITS = 15 };
    *length = 0;
    for (size_t at = 0; at < digits.len; at++) {
        if (digits.at[at] < '0' || digits.at[at] > '9')
            return false;
        *length = *length * 10 + (uint64_t)(digits.at[at] - '0');
    }
    return digits.len > 0 && digits.len <= MOST_DIGITS;
}

static inline bool read_header(struct span line, struct head *head) {
    const char *colon = memchr(line.at, ':', line.len);
    if (colon == NULL)
        return false;
    struct span name = {line.at, (size_t)(colon - line.at)};
    struct span value = trimmed((struct span){colon + 1, line.len - name.len - 1});
    if (span_is_like(name, SPAN("content-length"))) {
        head->has_length = true;
        return read_length(value, &head->length);
    }
    if (span_is_like(name, SPAN("transfer-encoding")))
        head->chunked = span_has_like(value, SPAN("chunked"));
    else if (span_is_like(name, SPAN("connection")))
        head->close = span_has_like(value, SPAN("close"));
    return true;
}

/* Reads a head, whose blank line is a part of it; false if it is none. */
static inline bool read_head(struct span bytes, struct head *head) {
    *head = (struct head){0};
    const char *at = bytes.at, *end = bytes.at + bytes.len - 2;
    while (at < end) {
        const char *stop = memmem(at, (size_t)(end + 2 - at), "\r\n", 2);
        struct span line = {at, (size_t)(stop - at)};
        if (at == bytes.at)
            head->first_line = line;
        else if (!read_header(line, head))
            return false;
        at = stop + 2;
    }
    return head->first_line.len > 0;
}

enum chunk_place {
    CHUNK_SIZE,
    CHUNK_EXTENSION,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    CHUNK_TRAILER,
    CHUNKS_DONE,
    CHUNKS_BAD,
};

/* Where in a chunked body we are; all zero is its beginning. */
struct chunks {
    enum chunk_place place;
    uint64_t left;
    unsigned digits;
    bool in_line;
};

static inline int hex_digit(char byte) {
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

static inline enum chunk_place after_size_line(const struct chunks *chunks) {
    if (chunks->digits == 0)
        return CHUNKS_BAD;
    return chunks->left == 0 ? CHUNK_TRAILER : CHUNK_DATA;
}

static inline enum chunk_place size_byte(struct chunks *chunks, char byte) {
    enum { MOST_DIGITS = 15 };
    int digit = hex_digit(byte);
    if (digit >= 0) {
        chunks->left = chunks->left * 16 + (unsigned)digit;
        return ++chunks->digits > MOST_DIGITS ? CHUNKS_BAD : CHUNK_SIZE;
    }
    if (byte == '\n')
        return after_size_line(chunks);
    bool ends = byte == '\r' || byte == ';' || byte == ' ' || byte == '\t';
    return ends && chunks->digits > 0 ? CHUNK_EXTENSION : CHUNKS_BAD;
}

static inline enum chunk_place trailer_byte(struct chunks *chunks, char byte) {
    if (byte == '\n' && !chunks->in_line)
        return CHUNKS_DONE;
    if (byte != '\r')
        chunks->in_line = byte != '\n';
    return CHUNK_TRAILER;
}

static inline enum chunk_place framing_byte(struct chunks *chunks, char byte) {
    switch (chunks->place) {
    case CHUNK_SIZE:
        return size_byte(chunks, byte);
    case CHUNK_EXTENSION:
        return byte == '\n' ? after_size_line(chunks) : CHUNK_EXTENSION;
    case CHUNK_DATA_CR:
        return byte == '\r' ? CHUNK_DATA_LF : CHUNKS_BAD;
    case CHUNK_DATA_LF:
        chunks->left = chunks->digits = 0;
        return byte == '\n' ? CHUNK_SIZE : CHUNKS_BAD;
    case CHUNK_TRAILER:
        return trailer_byte(chunks, byte);
    default:
        return CHUNKS_BAD;
    }
}

/* The next bytes of payload, and moves `at` behind them. Empty if there are none before `end`, or no more at all. */
static inline struct span next_payload(struct chunks *chunks, const char **at, const char *end) {
    while (*at < end && chunks->place != CHUNKS_DONE && chunks->place != CHUNKS_BAD) {
        if (chunks->place != CHUNK_DATA) {
            chunks->place = framing_byte(chunks, *(*at)++);
            continue;
        }
        size_t there = (size_t)(end - *at);
        struct span payload = {*at, there < chunks->left ? there : (size_t)chunks->left};
        *at += payload.len;
        chunks->left -= payload.len;
        if (chunks->left == 0)
            chunks->place = CHUNK_DATA_CR;
        return payload;
    }
    return (struct span){*at, 0};
}

#endif
