/* Load on what is in front of a model server, or on the server itself: streams that are held, or short requests. One
 * thread, one epoll. Results are lines of JSON on stdout. */
#define _GNU_SOURCE
#include <getopt.h>

#include "held_streams.h"
#include "short_requests.h"

static const char HELP[] =
    "usage: load --port PORT --path /generate_stream --body FILE [--headers FILE] --streams N [--ramp 256]\n"
    "       load --short --port PORT --path /generate --body FILE [--headers FILE] --connections C\n"
    "            (--seconds S [--warm-up W] | --count N) [--rate R]\n"
    "\n"
    "Posts the body to 127.0.0.1 and prints what came of it, in lines of JSON; latencies in microseconds.\n"
    "\n"
    "  --headers FILE   a header in each line, used by the connections in turn\n"
    "  --patience S     without any progress, gives up after so long (60)\n"
    "\n"
    "Streams: opened at once but for the ramp, so many without a first event at a time. When all have had it or have\n"
    "failed, 'ready' is printed. Lines on stdin are obeyed: start (measure from now), stop (print it), quit.\n"
    "  --streams N      how many\n"
    "\n"
    "Short requests: each connection sends its next one after the reply, or all together R a second, evenly.\n"
    "\n"
    "examples:\n"
    "  echo '{\"inputs\":\"x\"}' > body.json\n"
    "  (sleep 1; echo start; sleep 5; echo stop) |\n"
    "    load --port 8081 --path /generate_stream --body body.json --streams 64\n"
    "  load --short --port 8081 --path /generate --body body.json --connections 64 --seconds 5 --warm-up 1\n";

/* Descriptors that are none of the connections'. */
enum { OTHER_DESCRIPTORS = 16, MOST_CONNECTIONS = 1000 * 1000 };

/* As given; NULL and 0 are what was not. */
struct arguments {
    bool is_short;
    long port, streams, ramp, connections, count;
    const char *path, *body, *headers;
    double patience, seconds, warm_up, rate;
};

static struct buffer read_file(const char *name, const char *path) {
    struct buffer text = {0};
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        refuse_arguments("--%s: can't read %s: %s", name, path, strerror(errno));
    size_t got;
    do {
        buffer_reserve(&text, READ_BYTES);
        got = fread(text.bytes + text.len, 1, READ_BYTES, file);
        text.len += got;
    } while (got > 0);
    if (ferror(file))
        refuse_arguments("--%s: can't read %s: %s", name, path, strerror(errno));
    fclose(file);
    return text;
}

static struct arguments read_arguments(int argc, char **argv) {
    static const struct option options[] = {
        {"short", no_argument, NULL, 'S'},          {"port", required_argument, NULL, 'p'},
        {"path", required_argument, NULL, 'a'},     {"body", required_argument, NULL, 'b'},
        {"headers", required_argument, NULL, 'H'},  {"streams", required_argument, NULL, 's'},
        {"ramp", required_argument, NULL, 'r'},     {"connections", required_argument, NULL, 'c'},
        {"count", required_argument, NULL, 'n'},    {"seconds", required_argument, NULL, 't'},
        {"warm-up", required_argument, NULL, 'w'},  {"rate", required_argument, NULL, 'R'},
        {"patience", required_argument, NULL, 'P'}, {"help", no_argument, NULL, 'h'},
        {0}};
    static const double most_seconds = 1e6, least_rate = 1e-3, most_rate = 1e7;
    struct arguments given = {0};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'S': given.is_short = true; break;
        case 'p': given.port = whole_option("port", optarg, 1, UINT16_MAX); break;
        case 'a': given.path = optarg; break;
        case 'b': given.body = optarg; break;
        case 'H': given.headers = optarg; break;
        case 's': given.streams = whole_option("streams", optarg, 1, MOST_CONNECTIONS); break;
        case 'r': given.ramp = whole_option("ramp", optarg, 1, MOST_CONNECTIONS); break;
        case 'c': given.connections = whole_option("connections", optarg, 1, MOST_CONNECTIONS); break;
        case 'n': given.count = whole_option("count", optarg, 1, INT32_MAX); break;
        case 't': given.seconds = decimal_option("seconds", optarg, 1e-3, most_seconds); break;
        case 'w': given.warm_up = decimal_option("warm-up", optarg, 0, most_seconds); break;
        case 'R': given.rate = decimal_option("rate", optarg, least_rate, most_rate); break;
        case 'P': given.patience = decimal_option("patience", optarg, 1e-3, most_seconds); break;
        case 'h': exit(fputs(HELP, stdout) < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
        default: refuse_arguments("unknown or incomplete option");
        }
    }
    if (optind < argc)
        refuse_arguments("what is %s?", argv[optind]);
    return given;
}

static void check_arguments(const struct arguments *given) {
    if (given->port == 0 || given->path == NULL || given->body == NULL)
        refuse_arguments("--port, --path and --body are needed");
    if (given->path[0] != '/' || strpbrk(given->path, " \r\n") != NULL)
        refuse_arguments("--path: %s is not a path", given->path);
    bool has_short = given->connections || given->count || given->seconds > 0 || given->warm_up > 0 || given->rate > 0;
    bool has_streams = given->streams || given->ramp;
    if (!given->is_short) {
        if (given->streams == 0)
            refuse_arguments("--streams is needed, or --short");
        if (has_short)
            refuse_arguments("--connections, --seconds, --count, --warm-up and --rate go with --short");
        return;
    }
    if (has_streams)
        refuse_arguments("--streams and --ramp don't go with --short");
    if (given->connections == 0 || (given->seconds > 0) == (given->count > 0))
        refuse_arguments("--short needs --connections, and --seconds or --count");
    if (given->count > 0 && given->warm_up > 0)
        refuse_arguments("--warm-up goes with --seconds");
}

/* A request with each of the headers. */
static void add_requests(struct requests *requests, const struct arguments *given, struct span body,
                         const struct buffer *headers) {
    const char *at = headers->bytes, *end = headers->bytes + headers->len;
    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t len = (size_t)((stop != NULL ? stop : end) - at);
        struct span line = trimmed((struct span){at, len > 0 && at[len - 1] == '\r' ? len - 1 : len});
        at += len + (stop != NULL);
        if (line.len == 0)
            continue;
        if (memchr(line.at, ':', line.len) == NULL)
            refuse_arguments("--headers: not a header: %.*s", (int)line.len, line.at);
        struct buffer text = {0};
        put_request(&text, (int)given->port, given->path, line, body);
        requests_add(requests, text);
    }
}

static struct requests make_requests(const struct arguments *given) {
    struct requests requests = {0};
    struct buffer body = read_file("body", given->body), headers = {0}, text = {0};
    if (given->headers != NULL) {
        headers = read_file("headers", given->headers);
        if (headers.len > 0)
            add_requests(&requests, given, span_of(&body), &headers);
        if (requests.count == 0)
            refuse_arguments("--headers: %s has no header", given->headers);
    } else {
        put_request(&text, (int)given->port, given->path, SPAN(""), span_of(&body));
        requests_add(&requests, text);
    }
    buffer_free(&headers);
    buffer_free(&body);
    return requests;
}

static struct task make_task(const struct arguments *given) {
    size_t connections = (size_t)(given->is_short ? given->connections : given->streams);
    size_t descriptors = allow_all_descriptors();
    if (connections + OTHER_DESCRIPTORS > descriptors)
        refuse_arguments("%zu connections need as many descriptors; %zu are allowed, see ulimit -Hn", connections,
                         descriptors);
    return (struct task){
        .port = (int)given->port,
        .requests = make_requests(given),
        .patience_seconds = given->patience > 0 ? given->patience : 60,
        .streams = (size_t)given->streams,
        .ramp = given->ramp > 0 ? (size_t)given->ramp : 256,
        .connections = (size_t)given->connections,
        .count = (size_t)given->count,
        .seconds = given->seconds,
        .warm_up_seconds = given->warm_up,
        .rate = given->rate,
    };
}

int main(int argc, char **argv) {
    struct arguments given = read_arguments(argc, argv);
    check_arguments(&given);
    struct task task = make_task(&given);
    int status = given.is_short ? send_short(&task) : hold_streams(&task);
    requests_free(&task.requests);
    return status;
}
