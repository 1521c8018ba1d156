/* Requests, read out of bytes of which there may still be more to come. */
#ifndef REQUEST_H
#define REQUEST_H

#include "http.h"

enum { MOST_REQUEST_BYTES = 64 * 1024 * 1024 };

struct request {
    struct span method, path, body;
    bool keeps_alive;
    size_t len;
};

enum reading { WHOLE, PART, BAD };

static inline enum reading read_request_line(struct span line, struct request *request) {
    const char *first = memchr(line.at, ' ', line.len), *last = memrchr(line.at, ' ', line.len);
    if (first == NULL || first == last)
        return BAD;
    request->method = (struct span){line.at, (size_t)(first - line.at)};
    request->path = (struct span){first + 1, (size_t)(last - first) - 1};
    const char *query = memchr(request->path.at, '?', request->path.len);
    if (query != NULL)
        request->path.len = (size_t)(query - request->path.at);
    struct span version = {last + 1, line.len - (size_t)(last - line.at) - 1};
    request->keeps_alive = span_is(version, SPAN("HTTP/1.1"));
    return WHOLE;
}

/* Puts the body together in its place, over its own framing. From the beginning each time more has come: bodies are
 * short here, and `in` is only changed when all is there. */
static inline enum reading read_chunked_body(struct span bytes, struct request *request) {
    struct chunks chunks = {0}, again = {0};
    const char *at = bytes.at, *end = bytes.at + bytes.len;
    while (next_payload(&chunks, &at, end).len > 0)
        continue;
    if (chunks.place != CHUNKS_DONE)
        return chunks.place == CHUNKS_BAD ? BAD : PART;
    request->len += (size_t)(at - bytes.at);
    char *body = (char *)bytes.at;
    size_t len = 0;
    struct span payload;
    for (at = bytes.at; (payload = next_payload(&again, &at, end)).len > 0; len += payload.len)
        memmove(body + len, payload.at, payload.len);
    request->body = (struct span){body, len};
    return WHOLE;
}

static inline enum reading read_request(struct span bytes, struct request *request) {
    struct head head;
    request->len = head_length(bytes, 0);
    if (request->len == 0)
        return bytes.len < MOST_REQUEST_BYTES ? PART : BAD;
    if (!read_head((struct span){bytes.at, request->len}, &head) ||
        read_request_line(head.first_line, request) == BAD || head.length > MOST_REQUEST_BYTES)
        return BAD;
    request->keeps_alive = request->keeps_alive && !head.close;
    struct span rest = {bytes.at + request->len, bytes.len - request->len};
    if (head.chunked)
        return rest.len > MOST_REQUEST_BYTES ? BAD : read_chunked_body(rest, request);
    if (rest.len < head.length)
        return PART;
    request->body = (struct span){rest.at, (size_t)head.length};
    request->len += (size_t)head.length;
    return WHOLE;
}

static inline bool is_white(char byte) { return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n'; }

/* Whether a field of the JSON is true. In a text its quotes would have backslashes before them. */
static inline bool is_true(struct span json, struct span quoted_name) {
    const char *end = json.at + json.len, *at;
    while ((at = span_find(json, quoted_name)) != NULL) {
        at += quoted_name.len;
        json = (struct span){at, (size_t)(end - at)};
        bool after_colon = false;
        for (; at < end && (is_white(*at) || (*at == ':' && !after_colon)); at++)
            after_colon = after_colon || *at == ':';
        if (after_colon && end - at >= 4 && memcmp(at, "true", 4) == 0)
            return true;
    }
    return false;
}

#endif
