/* A connection to what is measured, one request on it at a time, and what all of them share. */
#ifndef CHANNEL_H
#define CHANNEL_H

#include "reply.h"
#include "sockets.h"

struct channel {
    int fd;
    bool watches_out;
    const struct buffer *request;
    size_t sent;
    struct reply reply;
};

/* One request for each identity, in turn. */
struct requests {
    struct buffer *texts;
    size_t count;
};

static inline void channel_close(struct channel *channel) {
    if (channel->fd != CLOSED)
        close(channel->fd);
    channel->fd = CLOSED;
}

static inline void channel_watch(struct channel *channel, int poll, int operation, bool out) {
    channel->watches_out = out;
    watch(poll, operation, channel->fd, EPOLLIN | (out ? EPOLLOUT : 0U), channel);
}

/* Sends what the socket takes of the request; false if it is broken. */
static inline bool channel_send(struct channel *channel, int poll) {
    const struct buffer *request = channel->request;
    struct span rest = {request->bytes + channel->sent, request->len - channel->sent};
    ssize_t sent = rest.len > 0 ? send_some(channel->fd, rest) : 0;
    if (sent < 0)
        return false;
    channel->sent += (size_t)sent;
    bool is_left = channel->sent < request->len;
    if (is_left != channel->watches_out)
        channel_watch(channel, poll, EPOLL_CTL_MOD, is_left);
    return true;
}

/* Asks, over a new connection if there is none; false with errno if that can't be made or is broken. */
static inline bool channel_ask(struct channel *channel, int poll, int port, const struct buffer *request) {
    channel->request = request;
    channel->sent = 0;
    reply_restart(&channel->reply);
    if (channel->fd != CLOSED)
        return channel_send(channel, poll);
    channel->fd = connect_to(port);
    if (channel->fd == CLOSED)
        return false;
    /* Sent as soon as epoll tells that the connection is there. */
    channel_watch(channel, poll, EPOLL_CTL_ADD, true);
    return true;
}

static inline void channel_free(struct channel *channel) {
    channel_close(channel);
    buffer_free(&channel->reply.head);
}

static inline void put_request(struct buffer *text, int port, const char *path, struct span header, struct span body) {
    buffer_printf(text, "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n", path, port);
    if (header.len > 0) {
        buffer_put(text, header);
        buffer_put(text, SPAN("\r\n"));
    }
    buffer_printf(text, "Content-Length: %zu\r\n\r\n", body.len);
    buffer_put(text, body);
}

static inline void requests_add(struct requests *requests, struct buffer text) {
    requests->texts = realloc(requests->texts, (requests->count + 1) * sizeof text);
    if (requests->texts == NULL)
        die("no memory for %zu requests", requests->count + 1);
    requests->texts[requests->count++] = text;
}

static inline void requests_free(struct requests *requests) {
    for (size_t at = 0; at < requests->count; at++)
        buffer_free(&requests->texts[at]);
    free(requests->texts);
}

#endif
