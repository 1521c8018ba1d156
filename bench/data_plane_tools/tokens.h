/* The events of a stream: their text, in the words of TGI or of OpenAI, each framed as one chunk. */
#ifndef TOKENS_H
#define TOKENS_H

#include "buffer.h"

enum {
    PROMPT_TOKENS = 7,
    TIME_DIGITS = 19,
    /* The size line of a chunk is written before it, when its length is known. */
    CHUNK_ROOM = 16,
};

enum dialect { TGI, OPENAI };

/* What is streamed, and how many tokens of it so far. */
struct tokens {
    enum dialect dialect;
    bool usage_in_chunks, usage_at_end;
    uint64_t count;
};

/* Room for one event after the other, each of at least so many bytes. */
struct event_text {
    struct buffer event, tail;
    size_t least_bytes;
};

#define OPENAI_START "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\","

static inline void put_usage(struct buffer *buffer, uint64_t tokens) {
    buffer_put(buffer, SPAN(",\"usage\":{\"prompt_tokens\":"));
    buffer_put_number(buffer, PROMPT_TOKENS, 1);
    buffer_put(buffer, SPAN(",\"total_tokens\":"));
    buffer_put_number(buffer, PROMPT_TOKENS + tokens, 1);
    buffer_put(buffer, SPAN(",\"completion_tokens\":"));
    buffer_put_number(buffer, tokens, 1);
    buffer_put(buffer, SPAN("}"));
}

/* What is before the time. */
static inline void put_start(struct buffer *event, const struct tokens *tokens, uint64_t number) {
    if (tokens->dialect == OPENAI) {
        buffer_put(event, SPAN(OPENAI_START "\"choices\":[{\"index\":0,\"delta\":{\"content\":\" t"));
        return;
    }
    buffer_put(event, SPAN("data:{\"index\":"));
    buffer_put_number(event, number, 1);
    buffer_put(event, SPAN(",\"token\":{\"id\":5,\"text\":\" t"));
}

/* What is behind the time. */
static inline void put_tail(struct buffer *tail, const struct tokens *tokens, uint64_t number, bool is_last) {
    if (tokens->dialect == OPENAI) {
        buffer_put(tail, SPAN("\"},\"logprobs\":null,\"finish_reason\":null}]"));
        if (tokens->usage_in_chunks)
            put_usage(tail, number);
        buffer_put(tail, SPAN("}\n\n"));
        return;
    }
    buffer_put(tail, SPAN("\",\"logprob\":-0.1,\"special\":false},\"generated_text\":"));
    if (!is_last) {
        buffer_put(tail, SPAN("null,\"details\":null}\n\n"));
        return;
    }
    buffer_put(tail, SPAN("\"x\",\"details\":{\"finish_reason\":\"length\",\"generated_tokens\":"));
    buffer_put_number(tail, number, 1);
    buffer_put(tail, SPAN(",\"seed\":null}}\n\n"));
}

static inline void begin_chunk(struct buffer *event) {
    event->len = 0;
    buffer_fill(event, ' ', CHUNK_ROOM);
}

/* The bytes since `begin_chunk` as a chunk. */
static inline struct span end_chunk(struct buffer *event) {
    size_t len = event->len - CHUNK_ROOM, at = CHUNK_ROOM;
    buffer_put(event, SPAN("\r\n"));
    event->bytes[--at] = '\n';
    event->bytes[--at] = '\r';
    do {
        event->bytes[--at] = "0123456789abcdef"[len % 16];
        len /= 16;
    } while (len > 0);
    return (struct span){event->bytes + at, event->len - at};
}

/* The next token as a chunk, as sent at that time. */
static inline struct span token_chunk(struct event_text *text, const struct tokens *tokens, bool is_last,
                                      int64_t time_ns) {
    struct buffer *event = &text->event, *tail = &text->tail;
    uint64_t number = tokens->count + 1;
    begin_chunk(event);
    put_start(event, tokens, number);
    buffer_put_number(event, (uint64_t)time_ns, TIME_DIGITS);
    tail->len = 0;
    put_tail(tail, tokens, number, is_last);
    size_t len = event->len - CHUNK_ROOM + tail->len;
    buffer_fill(event, 'x', len < text->least_bytes ? text->least_bytes - len : 0);
    buffer_put(event, span_of(tail));
    return end_chunk(event);
}

/* OpenAI's chunk after the last token: why it ended. */
static inline struct span finish_chunk(struct event_text *text, const struct tokens *tokens) {
    begin_chunk(&text->event);
    buffer_put(&text->event, SPAN(OPENAI_START));
    buffer_put(&text->event, SPAN("\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\"logprobs\":null,"
                                  "\"finish_reason\":\"length\"}]"));
    if (tokens->usage_in_chunks)
        put_usage(&text->event, tokens->count);
    buffer_put(&text->event, SPAN("}\n\n"));
    return end_chunk(&text->event);
}

/* And the one after that, for those who ask for it. */
static inline struct span usage_chunk(struct event_text *text, const struct tokens *tokens) {
    begin_chunk(&text->event);
    buffer_put(&text->event, SPAN(OPENAI_START "\"choices\":[]"));
    put_usage(&text->event, tokens->count);
    buffer_put(&text->event, SPAN("}\n\n"));
    return end_chunk(&text->event);
}

static inline void event_text_free(struct event_text *text) {
    buffer_free(&text->event);
    buffer_free(&text->tail);
}

#endif
