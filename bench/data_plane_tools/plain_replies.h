/* The replies that are no streams. */
#ifndef PLAIN_REPLIES_H
#define PLAIN_REPLIES_H

#include "tokens.h"

enum { PLAIN_TOKENS = 5, PLAIN_BYTES = 1000 };

#define TGI_INFO \
    "{\"model_id\":\"m\",\"model_sha\":null,\"model_pipeline_tag\":null,\"max_concurrent_requests\":20000," \
    "\"max_best_of\":2,\"max_stop_sequences\":4,\"max_input_tokens\":1048575,\"max_total_tokens\":1048576," \
    "\"validation_workers\":2,\"max_client_batch_size\":4,\"router\":\"text-generation-router\"," \
    "\"version\":\"3.3.6\",\"sha\":null,\"docker_label\":null}"

#define MODELS \
    "{\"object\":\"list\",\"data\":[{\"id\":\"m\",\"object\":\"model\",\"created\":1,\"owned_by\":\"m\"," \
    "\"root\":\"m\",\"parent\":null,\"max_model_len\":1048576}]}"

/* Made once, since a benchmark asks for tens of thousands a second. */
struct plain_replies {
    struct buffer generate, chat;
};

static inline void put_reply(struct buffer *text, const char *status, const char *headers, struct span body) {
    buffer_printf(text, "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", status, headers, body.len);
    buffer_put(text, body);
}

/* The body so far, filled up to PLAIN_BYTES but for what follows the text. */
static inline void put_filling(struct buffer *body, struct span tail) {
    size_t len = body->len + tail.len;
    buffer_fill(body, 'x', len < PLAIN_BYTES ? PLAIN_BYTES - len : 0);
    buffer_put(body, tail);
}

static inline struct plain_replies make_plain_replies(void) {
    struct plain_replies replies = {0};
    struct buffer body = {0}, tail = {0};
    buffer_put(&body, SPAN("{\"generated_text\":\""));
    put_filling(&body, SPAN("\"}"));
    put_reply(&replies.generate, "200 OK", "application/json\r\nx-prompt-tokens: 7\r\nx-generated-tokens: 5",
              span_of(&body));
    body.len = 0;
    buffer_put(&body, SPAN("{\"id\":\"c1\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\"choices\":"
                           "[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\""));
    buffer_put(&tail, SPAN("\"},\"logprobs\":null,\"finish_reason\":\"length\"}]"));
    put_usage(&tail, PLAIN_TOKENS);
    buffer_put(&tail, SPAN("}"));
    put_filling(&body, span_of(&tail));
    put_reply(&replies.chat, "200 OK", "application/json", span_of(&body));
    buffer_free(&body);
    buffer_free(&tail);
    return replies;
}

static inline void plain_replies_free(struct plain_replies *replies) {
    buffer_free(&replies->generate);
    buffer_free(&replies->chat);
}

/* TGI's names and vLLM's: those that tell how busy an engine is, how much it has served and what it has room for. */
static inline void put_metrics(struct buffer *text, size_t streams, uint64_t requests) {
    unsigned long long served = requests;
    buffer_printf(text,
                  "tgi_queue_size 0\ntgi_batch_current_size %zu\ntgi_request_count %llu\ntgi_request_success %llu\n"
                  "vllm:num_requests_waiting{engine=\"0\",model_name=\"m\"} 0.0\n"
                  "vllm:num_requests_running{engine=\"0\",model_name=\"m\"} %zu\n"
                  "vllm:prompt_tokens_total{engine=\"0\",model_name=\"m\"} %llu\n"
                  "vllm:cache_config_info{block_size=\"16\",engine=\"0\",num_gpu_blocks=\"67108864\"} 1.0\n",
                  streams, served, served, streams, PROMPT_TOKENS * served);
}

#endif
