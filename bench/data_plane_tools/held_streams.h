/* Many streams that are held open, and how late their events come: told by lines on stdin when to measure.
 *
 * An event ends with its blank line, however it was cut on its way, and its latency is the time since the one that it
 * carries in its text: " t" and nanoseconds. */
#ifndef HELD_STREAMS_H
#define HELD_STREAMS_H

#include "load.h"

enum { TIME_DIGITS = 19, MOST_PART_BYTES = 1024 * 1024, COMMAND_BYTES = 4096 };

enum stream_state { UNUSED, ASKED, HELD, GONE };

struct stream {
    struct channel channel;
    enum stream_state state;
    /* The beginning of an event whose end has not come. */
    struct buffer part;
};

/* What has been seen since `start`. */
struct seen {
    int64_t since_ns;
    uint64_t events, other_events, reads, event_reads, bytes, broken, ended;
    struct latencies latencies;
};

struct held_streams {
    const struct task *task;
    int poll, signals;
    struct stream *streams;
    size_t opened, asked, open, held, refused;
    int64_t began_ns, progress_ns;
    bool is_ready;
    struct seen seen;
    struct buffer commands;
    char *bytes;
};

static void print_ready(struct held_streams *held) {
    held->is_ready = true;
    printf("ready {\"held\":%zu,\"refused\":%zu,\"seconds\":%.6f}", held->held, held->refused,
           (double)(now_ns() - held->began_ns) / NANOSECONDS);
    end_line();
}

static void print_seen(const struct held_streams *held) {
    const struct seen *seen = &held->seen;
    printf("{\"seconds\":%.6f,\"events\":%llu,\"reads\":%llu,\"event_reads\":%llu,\"bytes\":%llu,\"other_events\":%llu,"
           "\"broken\":%llu,\"ended\":%llu,\"open\":%zu,\"latency_us\":",
           (double)(now_ns() - seen->since_ns) / NANOSECONDS, (unsigned long long)seen->events,
           (unsigned long long)seen->reads, (unsigned long long)seen->event_reads, (unsigned long long)seen->bytes,
           (unsigned long long)seen->other_events, (unsigned long long)seen->broken, (unsigned long long)seen->ended,
           held->open);
    latencies_print(&seen->latencies, stdout);
    putchar('}');
    end_line();
}

static void forget_seen(struct held_streams *held) {
    memset(&held->seen, 0, sizeof held->seen);
    held->seen.since_ns = now_ns();
}

/* It ended in order, was broken, or refused if no event had come at all. */
static void stream_over(struct held_streams *held, struct stream *stream, bool in_order) {
    if (stream->state == ASKED) {
        if (held->refused == 0)
            fprintf(stderr, "%s: first stream that was refused: status %d (0: no reply)\n",
                    program_invocation_short_name, stream->channel.reply.status);
        held->asked--;
        held->refused++;
    } else {
        held->open--;
        if (in_order)
            held->seen.ended++;
        else
            held->seen.broken++;
    }
    stream->state = GONE;
    channel_close(&stream->channel);
}

static void stream_holds(struct held_streams *held, struct stream *stream, int64_t now) {
    stream->state = HELD;
    held->asked--;
    held->open++;
    held->held++;
    held->progress_ns = now;
}

/* Opens streams as long as few enough wait for their first event. */
static void open_more(struct held_streams *held) {
    const struct task *task = held->task;
    while (held->opened < task->streams && held->asked < task->ramp) {
        struct stream *stream = &held->streams[held->opened];
        stream->state = ASKED;
        held->asked++;
        if (!channel_ask(&stream->channel, held->poll, task->port, request_of(task, held->opened)))
            stream_over(held, stream, false);
        held->opened++;
    }
    if (held->opened == task->streams && held->asked == 0 && !held->is_ready)
        print_ready(held);
}

/* The length up to and with the first blank line, 0 if there is none yet. Lines end in \n or \r\n. */
static size_t event_length(struct span bytes, size_t from) {
    const char *end = bytes.at + bytes.len, *newline = bytes.at + from;
    while (newline < end && (newline = memchr(newline, '\n', (size_t)(end - newline))) != NULL) {
        const char *next = newline + 1;
        if (next < end && *next == '\r')
            next++;
        if (next < end && *next == '\n')
            return (size_t)(next + 1 - bytes.at);
        newline++;
    }
    return 0;
}

/* The time that the event was sent, -1 if it carries none. */
static int64_t time_in(struct span event) {
    const char *mark;
    while ((mark = span_find(event, SPAN("\" t"))) != NULL) {
        const char *digits = mark + 3, *end = event.at + event.len;
        size_t len = 0;
        int64_t time_ns = 0;
        for (; len < TIME_DIGITS && digits + len < end && digits[len] >= '0' && digits[len] <= '9'; len++)
            time_ns = (int64_t)((uint64_t)time_ns * 10 + (uint64_t)(digits[len] - '0'));
        if (len == TIME_DIGITS)
            return time_ns;
        event = (struct span){digits, (size_t)(end - digits)};
    }
    return -1;
}

static void take_event(struct held_streams *held, struct stream *stream, struct span event, int64_t now) {
    int64_t sent_ns = time_in(event);
    if (sent_ns < 0) {
        held->seen.other_events++;
        return;
    }
    if (stream->state == ASKED)
        stream_holds(held, stream, now);
    held->seen.events++;
    latencies_add(&held->seen.latencies, now - sent_ns);
}

/* Takes the events that end in the payload, and keeps the beginning of the next. Returns how many there were. */
static size_t take_payload(struct held_streams *held, struct stream *stream, struct span payload, int64_t now) {
    struct buffer *part = &stream->part;
    size_t from = 0, count = 0, len;
    bool is_continued = part->len > 0;
    if (is_continued) {
        /* The newline that ends it may be the second of two, or the third of \n\r\n. */
        from = part->len > 2 ? part->len - 2 : 0;
        buffer_put(part, payload);
        payload = span_of(part);
    }
    for (; (len = event_length(payload, from)) > 0; count++, from = 0) {
        take_event(held, stream, (struct span){payload.at, len}, now);
        payload.at += len;
        payload.len -= len;
    }
    if (is_continued)
        buffer_drop(part, part->len - payload.len);
    else
        buffer_put(part, payload);
    return count;
}

static void take_bytes(struct held_streams *held, struct stream *stream, struct span bytes, int64_t now) {
    struct reply *reply = &stream->channel.reply;
    const char *at = bytes.at, *end = bytes.at + bytes.len;
    size_t events = 0;
    struct span payload;
    while ((payload = reply_next(reply, &at, end)).len > 0 && reply->status == STATUS_OK)
        events += take_payload(held, stream, payload, now);
    held->seen.reads++;
    held->seen.event_reads += events > 0;
    held->seen.bytes += bytes.len;
}

static void stream_read(struct held_streams *held, struct stream *stream) {
    struct reply *reply = &stream->channel.reply;
    ssize_t got = receive_some(stream->channel.fd, held->bytes, READ_BYTES);
    int64_t now = now_ns();
    if (got == NOTHING_YET)
        return;
    if (got > 0)
        take_bytes(held, stream, (struct span){held->bytes, (size_t)got}, now);
    else
        reply_closed(reply);
    bool is_wrong = reply->state == REPLY_BAD || stream->part.len > MOST_PART_BYTES ||
                    (reply->state == REPLY_BODY && reply->status != STATUS_OK);
    if (is_wrong || reply->state == REPLY_DONE)
        stream_over(held, stream, !is_wrong);
}

static void stream_event(struct held_streams *held, struct stream *stream, uint32_t events) {
    if (stream->state == GONE)
        return;
    if (events & EPOLLOUT && !channel_send(&stream->channel, held->poll))
        stream_over(held, stream, false);
    else if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        stream_read(held, stream);
}

/* False for the line that ends it. */
static bool obey(struct held_streams *held, const char *line) {
    if (strcmp(line, "quit") == 0)
        return false;
    if (strcmp(line, "start") == 0)
        forget_seen(held);
    else if (strcmp(line, "stop") == 0)
        print_seen(held);
    else
        fprintf(stderr, "%s: not 'start', 'stop' or 'quit': %s\n", program_invocation_short_name, line);
    return true;
}

/* False at the end of it. */
static bool read_commands(struct held_streams *held) {
    struct buffer *commands = &held->commands;
    buffer_reserve(commands, COMMAND_BYTES);
    ssize_t got = read(STDIN_FILENO, commands->bytes + commands->len, COMMAND_BYTES);
    if (got < 0 && errno == EINTR)
        return true;
    if (got <= 0)
        return false;
    commands->len += (size_t)got;
    char *stop;
    while (commands->len > 0 && (stop = memchr(commands->bytes, '\n', commands->len)) != NULL) {
        *stop = '\0';
        if (!obey(held, commands->bytes))
            return false;
        buffer_drop(commands, (size_t)(stop + 1 - commands->bytes));
    }
    return true;
}

/* Gives up those whose first event does not come, and those that would have been opened after them. */
static void give_up(struct held_streams *held) {
    for (size_t at = 0; at < held->opened; at++)
        if (held->streams[at].state == ASKED)
            stream_over(held, &held->streams[at], false);
    held->refused += held->task->streams - held->opened;
    held->opened = held->task->streams;
}

static int64_t patience_left(const struct held_streams *held) {
    if (held->is_ready)
        return WAIT_FOREVER;
    int64_t left = held->progress_ns + to_ns(held->task->patience_seconds) - now_ns();
    return left > 0 ? left : 0;
}

/* Returns the exit status. */
static int run_streams(struct held_streams *held) {
    struct epoll_event events[WAKE_UPS];
    for (;;) {
        open_more(held);
        int count = wait_for(held->poll, events, WAKE_UPS, patience_left(held));
        if (count == 0 && patience_left(held) == 0)
            give_up(held);
        for (int at = 0; at < count; at++) {
            void *who = events[at].data.ptr;
            if (who == &held->signals)
                return signalled_status(held->signals);
            if (who != &held->commands)
                /* A stream begins with its channel. */
                stream_event(held, who, events[at].events);
            else if (!read_commands(held))
                return EXIT_SUCCESS;
        }
    }
}

static int hold_streams(const struct task *task) {
    struct held_streams *held = calloc(1, sizeof *held);
    struct stream *streams = calloc(task->streams, sizeof *streams);
    char *bytes = malloc(READ_BYTES);
    if (held == NULL || streams == NULL || bytes == NULL)
        die("no memory for %zu streams", task->streams);
    int64_t now = now_ns();
    *held = (struct held_streams){.task = task, .poll = new_poll(), .signals = signals_as_descriptor(),
                                  .streams = streams, .bytes = bytes, .began_ns = now, .progress_ns = now};
    held->seen.since_ns = now;
    for (size_t at = 0; at < task->streams; at++)
        streams[at].channel.fd = CLOSED;
    watch(held->poll, EPOLL_CTL_ADD, held->signals, EPOLLIN, &held->signals);
    watch(held->poll, EPOLL_CTL_ADD, STDIN_FILENO, EPOLLIN, &held->commands);
    int status = run_streams(held);
    for (size_t at = 0; at < task->streams; at++) {
        channel_free(&streams[at].channel);
        buffer_free(&streams[at].part);
    }
    buffer_free(&held->commands);
    free(streams);
    free(bytes);
    free(held);
    return status;
}

#endif
