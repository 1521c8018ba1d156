/* Short requests over connections that are kept: each sends its next one after the reply, or all together at a rate. */
#ifndef SHORT_REQUESTS_H
#define SHORT_REQUESTS_H

#include "load.h"

struct asker {
    struct channel channel;
    bool is_asking;
    int64_t since_ns;
};

struct short_requests {
    const struct task *task;
    int poll, signals;
    struct asker *askers;
    /* Those that have nothing to do, the last one first. */
    struct asker **idle;
    size_t idle_count;
    size_t asked, answered, failed;
    /* Connections that could not be made since the last one that could, and why not. */
    size_t refusals;
    int reason;
    int64_t began_ns, measured_since_ns, end_ns, due_ns, progress_ns;
    bool is_warm;
    struct latencies latencies;
    char *bytes;
};

/* Its reply is there or is not to be. */
static void asker_done(struct short_requests *run, struct asker *asker, int64_t now) {
    struct channel *channel = &asker->channel;
    bool is_whole = channel->reply.state == REPLY_DONE;
    asker->is_asking = false;
    run->idle[run->idle_count++] = asker;
    if (is_whole && channel->reply.status == STATUS_OK) {
        run->answered++;
        latencies_add(&run->latencies, now - asker->since_ns);
    } else {
        run->failed++;
    }
    if (is_whole)
        run->progress_ns = now;
    if (!is_whole || channel->reply.closes || channel->sent < channel->request->len)
        channel_close(channel);
}

static void count_refusal(struct short_requests *run, int reason) {
    run->refusals++;
    run->reason = reason;
}

static void ask(struct short_requests *run, struct asker *asker, int64_t since) {
    const struct task *task = run->task;
    bool is_new = asker->channel.fd == CLOSED;
    /* Patience begins with the first that is waited for. */
    if (run->idle_count + 1 == task->connections)
        run->progress_ns = since;
    asker->is_asking = true;
    asker->since_ns = since;
    run->asked++;
    if (channel_ask(&asker->channel, run->poll, task->port, request_of(task, (size_t)(asker - run->askers))))
        return;
    if (is_new)
        count_refusal(run, errno);
    asker_done(run, asker, since);
}

static bool has_lost_its_server(const struct short_requests *run) { return run->refusals > run->task->connections; }

static bool may_ask(const struct short_requests *run, int64_t now) {
    const struct task *task = run->task;
    bool is_enough = task->count > 0 && run->asked == task->count;
    return run->idle_count > 0 && !is_enough && !has_lost_its_server(run) && (task->rate == 0 || run->due_ns <= now);
}

/* At a rate, one that had to wait for a connection has waited since it was due. One that is sent now was not kept
 * waiting by what is measured, but by this program at most. */
static void ask_what_is_due(struct short_requests *run, int64_t now, bool had_to_wait) {
    while (may_ask(run, now)) {
        struct asker *asker = run->idle[--run->idle_count];
        ask(run, asker, had_to_wait && run->task->rate > 0 ? run->due_ns : now);
        if (run->task->rate > 0)
            run->due_ns = run->began_ns + (int64_t)((double)run->asked * NANOSECONDS / run->task->rate);
    }
}

static void asker_read(struct short_requests *run, struct asker *asker) {
    struct reply *reply = &asker->channel.reply;
    ssize_t got = receive_some(asker->channel.fd, run->bytes, READ_BYTES);
    int64_t now = now_ns();
    if (got == NOTHING_YET)
        return;
    if (!asker->is_asking) {
        /* The server ends a connection that it does not want to keep. */
        channel_close(&asker->channel);
        return;
    }
    const char *at = run->bytes;
    if (got > 0)
        while (reply_next(reply, &at, run->bytes + got).len > 0)
            continue;
    else
        reply_closed(reply);
    if (reply->state != REPLY_DONE && reply->state != REPLY_BAD)
        return;
    bool all_were_busy = run->idle_count == 0;
    asker_done(run, asker, now);
    ask_what_is_due(run, now, all_were_busy);
}

/* The connection is there, or is not to be. */
static bool asker_connected(struct short_requests *run, struct asker *asker) {
    int reason = 0;
    socklen_t len = sizeof reason;
    if (getsockopt(asker->channel.fd, SOL_SOCKET, SO_ERROR, &reason, &len) < 0)
        reason = errno;
    if (reason == 0) {
        run->refusals = 0;
        return channel_send(&asker->channel, run->poll);
    }
    count_refusal(run, reason);
    return false;
}

static void asker_event(struct short_requests *run, struct asker *asker, uint32_t events) {
    if (asker->channel.fd == CLOSED)
        return;
    if (events & EPOLLOUT && !asker_connected(run, asker))
        asker_done(run, asker, now_ns());
    else if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        asker_read(run, asker);
}

/* Measures from now on. */
static void warmed_up(struct short_requests *run, int64_t now) {
    run->is_warm = true;
    run->answered = run->failed = 0;
    run->measured_since_ns = now;
    run->end_ns = now + to_ns(run->task->seconds);
    latencies_clear(&run->latencies);
}

static bool is_over(const struct short_requests *run, int64_t now) {
    if (run->task->count > 0)
        return run->answered + run->failed == run->task->count;
    return run->is_warm && now >= run->end_ns;
}

static int64_t patience_ends(const struct short_requests *run) {
    bool is_waiting = run->idle_count < run->task->connections;
    return is_waiting ? run->progress_ns + to_ns(run->task->patience_seconds) : INT64_MAX;
}

static int64_t time_to_wait(const struct short_requests *run, int64_t now) {
    int64_t until = patience_ends(run);
    if (run->task->count == 0) {
        int64_t end = run->is_warm ? run->end_ns : run->began_ns + to_ns(run->task->warm_up_seconds);
        until = end < until ? end : until;
    }
    if (run->task->rate > 0 && run->idle_count > 0 && run->due_ns < until)
        until = run->due_ns;
    return until > now ? until - now : 0;
}

static void print_result(const struct short_requests *run) {
    printf("{\"requests\":%zu,\"failures\":%zu,\"seconds\":%.6f,\"latency_us\":", run->answered, run->failed,
           (double)(now_ns() - run->measured_since_ns) / NANOSECONDS);
    latencies_print(&run->latencies, stdout);
    putchar('}');
    end_line();
}

static int complain_of_server(const struct short_requests *run) {
    if (has_lost_its_server(run))
        fprintf(stderr, "%s: can't connect to port %d: %s\n", program_invocation_short_name, run->task->port,
                strerror(run->reason));
    else
        fprintf(stderr, "%s: no reply for %g s\n", program_invocation_short_name, run->task->patience_seconds);
    return EXIT_FAILURE;
}

/* Returns the exit status. */
static int run_short(struct short_requests *run) {
    struct epoll_event events[WAKE_UPS];
    for (;;) {
        int64_t now = now_ns();
        if (!run->is_warm && now >= run->began_ns + to_ns(run->task->warm_up_seconds))
            warmed_up(run, now);
        if (is_over(run, now))
            break;
        if (has_lost_its_server(run) || now >= patience_ends(run))
            return complain_of_server(run);
        ask_what_is_due(run, now, false);
        int count = wait_for(run->poll, events, WAKE_UPS, time_to_wait(run, now));
        for (int at = 0; at < count; at++) {
            void *who = events[at].data.ptr;
            if (who == &run->signals)
                return signalled_status(run->signals);
            /* An asker begins with its channel. */
            asker_event(run, who, events[at].events);
        }
    }
    print_result(run);
    return EXIT_SUCCESS;
}

static int send_short(const struct task *task) {
    struct short_requests *run = calloc(1, sizeof *run);
    struct asker *askers = calloc(task->connections, sizeof *askers);
    struct asker **idle = calloc(task->connections, sizeof *idle);
    char *bytes = malloc(READ_BYTES);
    if (run == NULL || askers == NULL || idle == NULL || bytes == NULL)
        die("no memory for %zu connections", task->connections);
    int64_t now = now_ns();
    *run = (struct short_requests){.task = task, .poll = new_poll(), .signals = signals_as_descriptor(),
                                   .askers = askers, .idle = idle, .bytes = bytes, .began_ns = now, .due_ns = now,
                                   .progress_ns = now};
    for (size_t at = task->connections; at-- > 0;) {
        askers[at].channel.fd = CLOSED;
        idle[run->idle_count++] = &askers[at];
    }
    watch(run->poll, EPOLL_CTL_ADD, run->signals, EPOLLIN, &run->signals);
    int status = run_short(run);
    for (size_t at = 0; at < task->connections; at++)
        channel_free(&askers[at].channel);
    free(askers);
    free(idle);
    free(bytes);
    free(run);
    return status;
}

#endif
