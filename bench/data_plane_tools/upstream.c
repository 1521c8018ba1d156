/* A model server that computes nothing: it streams events at a rate that is set while it runs, each with the time at
 * which it was sent, and answers short requests. One thread, one epoll.
 *
 * A stream's first event comes with its request. Later ones come when they are due: each stream at a phase of its own
 * (paced), or all streams at one instant (burst). An event is one chunk and one send(), so that what a proxy reads at
 * once is one event unless the proxy is late. */
#define _GNU_SOURCE
#include <getopt.h>
#include <stddef.h>

#include "counts.h"
#include "due_heap.h"
#include "orders.h"
#include "plain_replies.h"
#include "random.h"
#include "request.h"
#include "sockets.h"
#include "tokens.h"

enum {
    READ_BYTES = 2048,
    MOST_EVENT_BYTES = 1024 * 1024,
    WAKE_UPS = 256,
    /* Events between two looks at the sockets. */
    EVENTS_A_TURN = 128,
};

/* Later than this, the events that should have been sent are dropped and counted: nothing is made up for in a rush. */
static const int64_t MOST_LATE_NS = 50 * 1000 * 1000;

enum what { LISTENER, CONTROL_LISTENER, SIGNALS, CLIENT, CONTROL };

/* Something that epoll tells of. */
struct source {
    enum what what;
    int fd;
};

#define NO_STREAM SIZE_MAX

/* A connection: of a client, or of one who controls. */
struct client {
    struct source source;
    struct buffer in, out;
    bool watches_out, close_when_sent;
    /* Its stream: where it is in the list of them, and what it has to send. */
    size_t stream;
    struct due due;
    struct tokens tokens;
    struct client *next, *previous;
};

struct upstream {
    int poll;
    struct source listener, control_listener, signals;
    struct client *clients, *closed;
    struct client **streams;
    size_t stream_count, stream_capacity;
    /* Paced: when each stream is due. Burst: when all are. Neither without a rate. */
    int64_t period_ns;
    bool burst;
    struct due_heap due;
    int64_t burst_at_ns;
    uint64_t random;
    struct event_text text;
    struct plain_replies plain;
    struct counts counts;
};

static struct client *client_new(struct upstream *upstream, int fd, enum what what) {
    struct client *client = calloc(1, sizeof *client);
    if (client == NULL)
        die("no memory for a connection");
    client->source = (struct source){what, fd};
    client->stream = NO_STREAM;
    client->due.place = NOT_DUE;
    client->next = upstream->clients;
    if (client->next != NULL)
        client->next->previous = client;
    upstream->clients = client;
    return client;
}

static void stream_close(struct upstream *upstream, struct client *client) {
    if (client->stream == NO_STREAM)
        return;
    struct client *last = upstream->streams[--upstream->stream_count];
    upstream->streams[client->stream] = last;
    last->stream = client->stream;
    client->stream = NO_STREAM;
    heap_remove(&upstream->due, &client->due);
}

/* Its memory stays until all that epoll told of in this turn is done: it may be in there again. */
static void client_close(struct upstream *upstream, struct client *client) {
    if (client->source.fd == CLOSED)
        return;
    stream_close(upstream, client);
    close(client->source.fd);
    client->source.fd = CLOSED;
    if (client->next != NULL)
        client->next->previous = client->previous;
    if (client->previous != NULL)
        client->previous->next = client->next;
    else
        upstream->clients = client->next;
    client->next = upstream->closed;
    upstream->closed = client;
}

static void free_closed(struct upstream *upstream) {
    while (upstream->closed != NULL) {
        struct client *client = upstream->closed;
        upstream->closed = client->next;
        buffer_free(&client->in);
        buffer_free(&client->out);
        free(client);
    }
}

/* A client that shuts its side has gone; one who controls may do so and still wants the answer. */
static uint32_t events_of(const struct client *client) {
    uint32_t gone = client->source.what == CLIENT ? EPOLLRDHUP : 0;
    return EPOLLIN | gone | (client->watches_out ? EPOLLOUT : 0U);
}

static void watch_out(struct upstream *upstream, struct client *client, bool wanted) {
    if (client->watches_out == wanted)
        return;
    client->watches_out = wanted;
    watch(upstream->poll, EPOLL_CTL_MOD, client->source.fd, events_of(client), client);
}

/* Sends what the socket takes now and keeps the rest; false if the connection had to be closed. */
static bool client_send(struct upstream *upstream, struct client *client, struct span span) {
    ssize_t sent = client->out.len > 0 ? 0 : send_some(client->source.fd, span);
    if (sent < 0) {
        client_close(upstream, client);
        return false;
    }
    buffer_put(&client->out, (struct span){span.at + sent, span.len - (size_t)sent});
    watch_out(upstream, client, client->out.len > 0);
    return true;
}

static void client_flush(struct upstream *upstream, struct client *client) {
    ssize_t sent = client->out.len > 0 ? send_some(client->source.fd, span_of(&client->out)) : 0;
    if (sent < 0) {
        client_close(upstream, client);
        return;
    }
    buffer_drop(&client->out, (size_t)sent);
    watch_out(upstream, client, client->out.len > 0);
    if (client->out.len == 0 && client->close_when_sent && client->stream == NO_STREAM)
        client_close(upstream, client);
}

static void count_event(struct upstream *upstream, struct client *client) {
    client->tokens.count++;
    upstream->counts.events++;
}

/* Sends the stream's next event, unless the socket is full: a late event is none that latency can be taken of. */
static void send_event(struct upstream *upstream, struct client *client, int64_t now) {
    if (client->out.len > 0) {
        upstream->counts.skipped++;
        return;
    }
    struct span chunk = token_chunk(&upstream->text, &client->tokens, false, now);
    ssize_t sent = send_some(client->source.fd, chunk);
    if (sent < 0) {
        client_close(upstream, client);
    } else if (sent == 0) {
        upstream->counts.skipped++;
    } else {
        count_event(upstream, client);
        if ((size_t)sent < chunk.len) {
            buffer_put(&client->out, (struct span){chunk.at + sent, chunk.len - (size_t)sent});
            watch_out(upstream, client, true);
        }
    }
}

static void schedule(struct upstream *upstream, struct client *client, int64_t now) {
    heap_remove(&upstream->due, &client->due);
    if (upstream->period_ns == 0 || upstream->burst)
        return;
    client->due.at_ns = now + (int64_t)(next_random(&upstream->random) * (double)upstream->period_ns);
    heap_add(&upstream->due, &client->due);
}

static void schedule_all(struct upstream *upstream) {
    int64_t now = now_ns();
    upstream->burst_at_ns = now + upstream->period_ns;
    for (size_t at = 0; at < upstream->stream_count; at++)
        schedule(upstream, upstream->streams[at], now);
}

/* When it is next due, after `due`, without being too late; what is left out in between counts as so many missed. */
static int64_t next_due(struct upstream *upstream, int64_t due, int64_t now, uint64_t events) {
    due += upstream->period_ns;
    if (now - due <= MOST_LATE_NS)
        return due;
    int64_t periods = (now - due) / upstream->period_ns + 1;
    upstream->counts.missed += (uint64_t)periods * events;
    return due + periods * upstream->period_ns;
}

static void send_paced(struct upstream *upstream) {
    for (int sent = 0; sent < EVENTS_A_TURN && upstream->due.len > 0; sent++) {
        struct due *due = upstream->due.places[0];
        struct client *client = (struct client *)((char *)due - offsetof(struct client, due));
        int64_t now = now_ns();
        if (due->at_ns > now)
            return;
        send_event(upstream, client, now);
        if (due->place == NOT_DUE)
            continue;
        due->at_ns = next_due(upstream, due->at_ns, now, 1);
        heap_sink(&upstream->due, due);
    }
}

/* From the last to the first: a stream that ends meanwhile is replaced by one that has had its event. */
static void send_burst(struct upstream *upstream) {
    int64_t now = now_ns();
    if (upstream->burst_at_ns > now)
        return;
    for (size_t at = upstream->stream_count; at-- > 0;)
        send_event(upstream, upstream->streams[at], now_ns());
    upstream->burst_at_ns = next_due(upstream, upstream->burst_at_ns, now, upstream->stream_count);
}

static int64_t time_to_wait(const struct upstream *upstream) {
    bool bursts = upstream->burst && upstream->period_ns > 0 && upstream->stream_count > 0;
    if (!bursts && upstream->due.len == 0)
        return WAIT_FOREVER;
    int64_t wait = (bursts ? upstream->burst_at_ns : upstream->due.places[0]->at_ns) - now_ns();
    return wait > 0 ? wait : 0;
}

static void send_what_is_due(struct upstream *upstream) {
    if (!upstream->burst)
        send_paced(upstream);
    else if (upstream->period_ns > 0)
        send_burst(upstream);
}

static void stream_add(struct upstream *upstream, struct client *client) {
    if (upstream->stream_count == upstream->stream_capacity) {
        upstream->stream_capacity = upstream->stream_capacity > 0 ? 2 * upstream->stream_capacity : 64;
        upstream->streams = realloc(upstream->streams, upstream->stream_capacity * sizeof(struct client *));
        if (upstream->streams == NULL)
            die("no memory for %zu streams", upstream->stream_capacity);
    }
    /* There are no bursts while there are no streams. */
    if (upstream->stream_count == 0)
        upstream->burst_at_ns = now_ns() + upstream->period_ns;
    client->stream = upstream->stream_count;
    upstream->streams[upstream->stream_count++] = client;
}

static void stream_begin(struct upstream *upstream, struct client *client) {
    stream_add(upstream, client);
    if (!client_send(upstream, client,
                     SPAN("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
                          "Transfer-Encoding: chunked\r\n\r\n")))
        return;
    int64_t now = now_ns();
    send_event(upstream, client, now);
    if (client->stream != NO_STREAM)
        schedule(upstream, client, now);
}

/* TGI says the end with one more token. */
static bool send_tgi_end(struct upstream *upstream, struct client *client) {
    struct span chunk = token_chunk(&upstream->text, &client->tokens, true, now_ns());
    count_event(upstream, client);
    return client_send(upstream, client, chunk);
}

static bool send_openai_end(struct upstream *upstream, struct client *client) {
    const struct tokens *tokens = &client->tokens;
    return client_send(upstream, client, finish_chunk(&upstream->text, tokens)) &&
           (!tokens->usage_at_end || client_send(upstream, client, usage_chunk(&upstream->text, tokens))) &&
           client_send(upstream, client, SPAN("e\r\ndata: [DONE]\n\n\r\n"));
}

static void serve(struct upstream *upstream, struct client *client);

static void stream_finish(struct upstream *upstream, struct client *client) {
    bool open = client->tokens.dialect == OPENAI ? send_openai_end(upstream, client) : send_tgi_end(upstream, client);
    if (!open || !client_send(upstream, client, SPAN("0\r\n\r\n")))
        return;
    stream_close(upstream, client);
    if (client->close_when_sent)
        client_flush(upstream, client);
    else
        serve(upstream, client);
}

static void reply(struct upstream *upstream, struct client *client, const char *status, const char *type,
                  struct span body) {
    struct buffer text = {0};
    put_reply(&text, status, type, body);
    client_send(upstream, client, span_of(&text));
    buffer_free(&text);
}

static void reply_generate(struct upstream *upstream, struct client *client, struct span body) {
    (void)body;
    client_send(upstream, client, span_of(&upstream->plain.generate));
}

static void reply_generate_stream(struct upstream *upstream, struct client *client, struct span body) {
    (void)body;
    client->tokens = (struct tokens){.dialect = TGI};
    stream_begin(upstream, client);
}

static void reply_chat(struct upstream *upstream, struct client *client, struct span body) {
    if (!is_true(body, SPAN("\"stream\""))) {
        client_send(upstream, client, span_of(&upstream->plain.chat));
        return;
    }
    client->tokens = (struct tokens){.dialect = OPENAI,
                                     .usage_in_chunks = is_true(body, SPAN("\"continuous_usage_stats\"")),
                                     .usage_at_end = is_true(body, SPAN("\"include_usage\""))};
    stream_begin(upstream, client);
}

static void reply_health(struct upstream *upstream, struct client *client, struct span body) {
    (void)body;
    reply(upstream, client, "200 OK", "text/plain", SPAN(""));
}

static void reply_info(struct upstream *upstream, struct client *client, struct span body) {
    (void)body;
    reply(upstream, client, "200 OK", "application/json", SPAN(TGI_INFO));
}

static void reply_models(struct upstream *upstream, struct client *client, struct span body) {
    (void)body;
    reply(upstream, client, "200 OK", "application/json", SPAN(MODELS));
}

static void reply_metrics(struct upstream *upstream, struct client *client, struct span body) {
    (void)body;
    struct buffer metrics = {0};
    put_metrics(&metrics, upstream->stream_count, upstream->counts.requests);
    reply(upstream, client, "200 OK", "text/plain; version=0.0.4; charset=utf-8", span_of(&metrics));
    buffer_free(&metrics);
}

struct route {
    struct span method, path;
    void (*reply)(struct upstream *upstream, struct client *client, struct span body);
};

static const struct route ROUTES[] = {
    {SPAN_OF("POST"), SPAN_OF("/generate_stream"), reply_generate_stream},
    {SPAN_OF("POST"), SPAN_OF("/v1/chat/completions"), reply_chat},
    {SPAN_OF("POST"), SPAN_OF("/generate"), reply_generate},
    {SPAN_OF("GET"), SPAN_OF("/health"), reply_health},
    {SPAN_OF("GET"), SPAN_OF("/info"), reply_info},
    {SPAN_OF("GET"), SPAN_OF("/metrics"), reply_metrics},
    {SPAN_OF("GET"), SPAN_OF("/v1/models"), reply_models},
};

static void answer(struct upstream *upstream, struct client *client, const struct request *request) {
    for (size_t at = 0; at < sizeof ROUTES / sizeof *ROUTES; at++) {
        const struct route *route = &ROUTES[at];
        if (!span_is(request->method, route->method) || !span_is(request->path, route->path))
            continue;
        if (span_is(request->method, SPAN("POST")))
            upstream->counts.requests++;
        else
            upstream->counts.others++;
        route->reply(upstream, client, request->body);
        return;
    }
    upstream->counts.others++;
    reply(upstream, client, "404 Not Found", "application/json",
          SPAN("{\"error\":{\"message\":\"no such route\",\"type\":\"not_found\",\"code\":404}}"));
}

/* Answers the requests that have come whole, up to one that is a stream. */
static void serve(struct upstream *upstream, struct client *client) {
    struct request request;
    while (client->in.len > 0 && client->source.fd != CLOSED && client->stream == NO_STREAM &&
           !client->close_when_sent) {
        enum reading reading = read_request(span_of(&client->in), &request);
        if (reading == PART)
            return;
        client->close_when_sent = reading == BAD || !request.keeps_alive;
        if (reading == BAD)
            reply(upstream, client, "400 Bad Request", "text/plain", SPAN("not a request that is understood\n"));
        else
            answer(upstream, client, &request);
        buffer_drop(&client->in, reading == BAD ? client->in.len : request.len);
        if (client->close_when_sent && client->source.fd != CLOSED && client->stream == NO_STREAM)
            client_flush(upstream, client);
    }
}

static void finish_all(struct upstream *upstream) {
    for (size_t at = upstream->stream_count; at-- > 0;)
        stream_finish(upstream, upstream->streams[at]);
}

static void obey(struct upstream *upstream, struct order order) {
    switch (order.what) {
    case ORDER_RATE:
        upstream->period_ns = order.period_ns;
        schedule_all(upstream);
        break;
    case ORDER_PACED:
    case ORDER_BURST:
        upstream->burst = order.what == ORDER_BURST;
        schedule_all(upstream);
        break;
    case ORDER_FINISH:
        finish_all(upstream);
        break;
    case ORDER_STATS:
    case ORDER_UNKNOWN:
        break;
    }
}

static void answer_line(struct upstream *upstream, struct client *client, const char *line) {
    struct buffer answer = {0};
    struct order order = read_order(line);
    obey(upstream, order);
    if (order.what == ORDER_STATS)
        put_stats(&answer, &upstream->counts, upstream->stream_count, clock_ns(CLOCK_PROCESS_CPUTIME_ID));
    else
        buffer_printf(&answer, "%s\n", order.what == ORDER_UNKNOWN ? ORDERS : "ok");
    client_send(upstream, client, span_of(&answer));
    buffer_free(&answer);
}

static void answer_lines(struct upstream *upstream, struct client *client) {
    char *stop;
    while (client->source.fd != CLOSED && client->in.len > 0 &&
           (stop = memchr(client->in.bytes, '\n', client->in.len)) != NULL) {
        size_t len = (size_t)(stop - client->in.bytes);
        *stop = '\0';
        if (len > 0 && stop[-1] == '\r')
            stop[-1] = '\0';
        answer_line(upstream, client, client->in.bytes);
        buffer_drop(&client->in, len + 1);
    }
}

static void accept_all(struct upstream *upstream, const struct source *listener, enum what what) {
    for (;;) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (fd < 0)
            die("can't accept a connection: %s", strerror(errno));
        send_at_once(fd);
        struct client *client = client_new(upstream, fd, what);
        watch(upstream->poll, EPOLL_CTL_ADD, fd, events_of(client), client);
    }
}

static void client_read(struct upstream *upstream, struct client *client) {
    buffer_reserve(&client->in, READ_BYTES);
    ssize_t got = receive_some(client->source.fd, client->in.bytes + client->in.len,
                               client->in.capacity - client->in.len);
    if (got == NOTHING_YET)
        return;
    /* While a stream runs, what comes is kept for later. */
    if (got <= 0 || client->in.len > 2UL * MOST_REQUEST_BYTES) {
        client_close(upstream, client);
        return;
    }
    client->in.len += (size_t)got;
    if (client->source.what == CLIENT)
        serve(upstream, client);
    else
        answer_lines(upstream, client);
}

static void client_event(struct upstream *upstream, struct client *client, uint32_t events) {
    if (client->source.fd == CLOSED)
        return;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        client_close(upstream, client);
        return;
    }
    if (events & EPOLLOUT)
        client_flush(upstream, client);
    if (events & EPOLLIN && client->source.fd != CLOSED)
        client_read(upstream, client);
}

/* Runs until a signal comes; returns the exit status. */
static int run(struct upstream *upstream) {
    struct epoll_event events[WAKE_UPS];
    for (;;) {
        int count = wait_for(upstream->poll, events, WAKE_UPS, time_to_wait(upstream));
        for (int at = 0; at < count; at++) {
            struct source *source = events[at].data.ptr;
            switch (source->what) {
            case SIGNALS:
                return signalled_status(source->fd);
            case LISTENER:
                accept_all(upstream, source, CLIENT);
                break;
            case CONTROL_LISTENER:
                accept_all(upstream, source, CONTROL);
                break;
            default:
                /* A client begins with its source. */
                client_event(upstream, (struct client *)source, events[at].events);
            }
        }
        send_what_is_due(upstream);
        free_closed(upstream);
    }
}

static void begin(struct upstream *upstream, int port, int control) {
    allow_all_descriptors();
    upstream->poll = new_poll();
    upstream->signals = (struct source){SIGNALS, signals_as_descriptor()};
    upstream->listener = (struct source){LISTENER, listen_at(port)};
    upstream->control_listener = (struct source){CONTROL_LISTENER, listen_at(control)};
    struct source *sources[] = {&upstream->signals, &upstream->listener, &upstream->control_listener};
    for (size_t at = 0; at < sizeof sources / sizeof *sources; at++)
        watch(upstream->poll, EPOLL_CTL_ADD, sources[at]->fd, EPOLLIN, sources[at]);
    upstream->plain = make_plain_replies();
    printf("ready {\"port\":%d,\"control\":%d}\n", port_of(upstream->listener.fd),
           port_of(upstream->control_listener.fd));
    if (fflush(stdout) != 0)
        die("can't write: %s", strerror(errno));
}

static void end(struct upstream *upstream) {
    while (upstream->clients != NULL)
        client_close(upstream, upstream->clients);
    free_closed(upstream);
    free(upstream->streams);
    free(upstream->due.places);
    event_text_free(&upstream->text);
    plain_replies_free(&upstream->plain);
}

static const char HELP[] =
    "usage: upstream --port PORT --control PORT [--event-bytes 170]\n"
    "\n"
    "A model server that computes nothing, on 127.0.0.1: TGI's /generate and /generate_stream, OpenAI's\n"
    "/v1/chat/completions, /health, /info, /metrics, /v1/models. A port 0 is any that is free; both are printed.\n"
    "\n"
    "The control port takes lines and answers each with one:\n"
    "  rate R                    events/s of each stream, 0 for none (which it begins with)\n"
    "  mode paced | mode burst   streams at phases of their own, or all at one instant\n"
    "  finish                    all streams end in order\n"
    "  stats                     as JSON: streams, requests, others, events, skipped, missed, cpu_seconds\n"
    "\n"
    "example:\n"
    "  upstream --port 8081 --control 8082 &\n"
    "  curl -N -d '{\"inputs\":\"x\"}' http://127.0.0.1:8081/generate_stream &\n"
    "  exec 3<>/dev/tcp/127.0.0.1/8082; echo 'rate 2' >&3; read -r answer <&3; echo \"$answer\"\n";

int main(int argc, char **argv) {
    static const struct option options[] = {{"port", required_argument, NULL, 'p'},
                                            {"control", required_argument, NULL, 'c'},
                                            {"event-bytes", required_argument, NULL, 'e'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    struct upstream upstream = {.text.least_bytes = 170, .random = UINT64_C(0x9e3779b97f4a7c15)};
    long port = -1, control = -1;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'p')
            port = whole_option("port", optarg, 0, UINT16_MAX);
        else if (option == 'c')
            control = whole_option("control", optarg, 0, UINT16_MAX);
        else if (option == 'e')
            upstream.text.least_bytes = (size_t)whole_option("event-bytes", optarg, 1, MOST_EVENT_BYTES);
        else if (option == 'h')
            return fputs(HELP, stdout) < 0;
        else
            refuse_arguments("unknown or incomplete option");
    }
    if (optind < argc)
        refuse_arguments("what is %s?", argv[optind]);
    if (port < 0 || control < 0)
        refuse_arguments("--port and --control are needed");
    begin(&upstream, (int)port, (int)control);
    int status = run(&upstream);
    end(&upstream);
    return status;
}
