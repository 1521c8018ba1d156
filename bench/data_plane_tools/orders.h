/* The lines of the control port. */
#ifndef ORDERS_H
#define ORDERS_H

#include "sockets.h"

#define ORDERS "error: not 'rate R' with R from 0.001 to 1000000 or 0, 'mode paced', 'mode burst', 'finish' or 'stats'"

enum order_kind { ORDER_UNKNOWN, ORDER_RATE, ORDER_PACED, ORDER_BURST, ORDER_FINISH, ORDER_STATS };

/* `period_ns`: between two events of a stream, 0 for no events. */
struct order {
    enum order_kind what;
    int64_t period_ns;
};

static inline struct order read_rate(const char *text) {
    static const double least = 0.001, most = 1e6;
    char *end;
    double rate = strtod(text, &end);
    bool is_rate = end != text && *end == '\0' && (rate == 0 || (rate >= least && rate <= most));
    if (!is_rate)
        return (struct order){ORDER_UNKNOWN, 0};
    return (struct order){ORDER_RATE, rate > 0 ? (int64_t)(NANOSECONDS / rate + 0.5) : 0};
}

static inline struct order read_order(const char *line) {
    static const struct {
        const char *line;
        enum order_kind what;
    } words[] = {
        {"mode paced", ORDER_PACED}, {"mode burst", ORDER_BURST}, {"finish", ORDER_FINISH}, {"stats", ORDER_STATS}};
    if (strncmp(line, "rate ", 5) == 0)
        return read_rate(line + 5);
    for (size_t at = 0; at < sizeof words / sizeof *words; at++)
        if (strcmp(line, words[at].line) == 0)
            return (struct order){words[at].what, 0};
    return (struct order){ORDER_UNKNOWN, 0};
}

#endif
