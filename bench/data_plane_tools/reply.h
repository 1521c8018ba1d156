/* A reply as it comes, in pieces of any size. */
#ifndef REPLY_H
#define REPLY_H

#include "http.h"

enum { STATUS_OK = 200, MOST_HEAD_BYTES = 1024 * 1024 };

enum body { BODY_OF_LENGTH, BODY_CHUNKED, BODY_UNTIL_CLOSE };

enum reply_state { REPLY_HEAD, REPLY_BODY, REPLY_DONE, REPLY_BAD };

/* All zero is before its first byte. */
struct reply {
    enum reply_state state;
    enum body body;
    int status;
    bool closes;
    uint64_t left;
    struct chunks chunks;
    struct buffer head;
};

static inline void reply_restart(struct reply *reply) {
    struct buffer head = reply->head;
    head.len = 0;
    *reply = (struct reply){.head = head};
}

/* The three digits of `HTTP/1.1 200 OK`; -1 if it is not such a line. */
static inline int read_status(struct span line) {
    enum { DIGITS_AT = 9, LEAST = 12 };
    if (line.len < LEAST || memcmp(line.at, "HTTP/1.", 7) != 0)
        return -1;
    int status = 0;
    for (size_t at = DIGITS_AT; at < LEAST; at++) {
        if (line.at[at] < '0' || line.at[at] > '9')
            return -1;
        status = status * 10 + line.at[at] - '0';
    }
    return status;
}

static inline void take_head(struct reply *reply) {
    struct head head;
    bool understood = read_head(span_of(&reply->head), &head);
    reply->status = understood ? read_status(head.first_line) : -1;
    reply->head.len = 0;
    if (reply->status < 0) {
        reply->state = REPLY_BAD;
        return;
    }
    if (reply->status < STATUS_OK)
        return;
    bool is_empty = reply->status == 204 || reply->status == 304;
    reply->left = is_empty ? 0 : head.length;
    reply->body = head.chunked && !is_empty           ? BODY_CHUNKED
                  : head.has_length || is_empty       ? BODY_OF_LENGTH
                                                      : BODY_UNTIL_CLOSE;
    reply->closes = head.close || reply->body == BODY_UNTIL_CLOSE;
    reply->state = reply->body == BODY_OF_LENGTH && reply->left == 0 ? REPLY_DONE : REPLY_BODY;
}

static inline void collect_head(struct reply *reply, const char **at, const char *end) {
    size_t before = reply->head.len;
    buffer_put(&reply->head, (struct span){*at, (size_t)(end - *at)});
    size_t len = head_length(span_of(&reply->head), before > 3 ? before - 3 : 0);
    if (len == 0) {
        *at = end;
        if (reply->head.len > MOST_HEAD_BYTES)
            reply->state = REPLY_BAD;
        return;
    }
    *at += len - before;
    reply->head.len = len;
    take_head(reply);
}

static inline struct span next_plain(struct reply *reply, const char **at, const char *end) {
    size_t there = (size_t)(end - *at);
    bool until_close = reply->body == BODY_UNTIL_CLOSE;
    struct span payload = {*at, until_close || there < reply->left ? there : (size_t)reply->left};
    *at += payload.len;
    if (!until_close && (reply->left -= payload.len) == 0)
        reply->state = REPLY_DONE;
    return payload;
}

/* The next bytes of the body, and moves `at` behind them; empty if there are none before `end`. What comes after a
 * reply that is done was not asked for. */
static inline struct span reply_next(struct reply *reply, const char **at, const char *end) {
    while (*at < end && reply->state == REPLY_HEAD)
        collect_head(reply, at, end);
    if (*at < end && reply->state == REPLY_DONE)
        reply->state = REPLY_BAD;
    if (*at == end || reply->state != REPLY_BODY)
        return (struct span){*at, 0};
    if (reply->body != BODY_CHUNKED)
        return next_plain(reply, at, end);
    struct span payload = next_payload(&reply->chunks, at, end);
    if (reply->chunks.place == CHUNKS_BAD)
        reply->state = REPLY_BAD;
    else if (reply->chunks.place == CHUNKS_DONE)
        reply->state = *at == end ? REPLY_DONE : REPLY_BAD;
    return payload;
}

/* The server has closed: what ends a reply of no length, and breaks any other. */
static inline void reply_closed(struct reply *reply) {
    bool ends = reply->state == REPLY_BODY && reply->body == BODY_UNTIL_CLOSE;
    if (reply->state != REPLY_DONE)
        reply->state = ends ? REPLY_DONE : REPLY_BAD;
}

#endif
