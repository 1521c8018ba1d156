"""Panels about proxies and engines: how much is let in and by whose word, what engines report, what proxies cost."""

from typing import Final

from .alerts import PROXIES
from .grafana import GREEN, RED, Panel, Query, Row, View, bad_from
from .selecting import OF_PROXY, PROXY_NAME, rate

# What Kubernetes adds to each series and does not tell one proxy from another.
_NOISE: Final = ("__name__", "container", "endpoint", "job", "namespace")


def _against_limit(title: str, text: str, budget: str) -> Panel:
    queries = (
        Query(f'fairqueue_capacity_used{{{OF_PROXY},budget="{budget}"}}', PROXY_NAME),
        Query(f'fairqueue_capacity_limit{{{OF_PROXY},budget="{budget}"}}', PROXY_NAME, dashed=True),
    )
    return Panel(title, text, "short", queries, width=12)


CAPACITY: Final = Row(
    "Capacity: how much is let in, and who says so",
    (
        Panel(
            "Limits",
            "Each budget's limit and its source: the policy, the engine, or learned.",
            "short",
            (Query(f"fairqueue_capacity_limit{{{OF_PROXY}}}", "Limit"),),
            View.TABLE,
            hidden=_NOISE,
        ),
        Panel(
            "Budgets in use",
            "How much of each budget's limit is used; when one is full nothing more is let in.",
            "percentunit",
            (
                Query(
                    f"fairqueue_capacity_used{{{OF_PROXY}}}"
                    f"\n/ on (cluster, job, instance, budget) group_right () fairqueue_capacity_limit{{{OF_PROXY}}}",
                    f"{{{{budget}}}}: {PROXY_NAME}",
                ),
            ),
        ),
        Panel(
            "Idle while requests wait",
            "Share of time in which somebody waited and something was free.",
            "percentunit",
            (Query(f"fairqueue:idle_capacity:ratio5m{{{OF_PROXY}}}", PROXY_NAME),),
            most=1.0,
            steps=bad_from(0.5),
        ),
        _against_limit(
            "Requests and the limit on them",
            "Requests that count against that budget; dashed: its limit, where there is one.",
            "requests",
        ),
        _against_limit(
            "Requests that have not started and the limit on them",
            "Sent to the engine and without a first token; dashed: how many may be, which is learned.",
            "unstarted",
        ),
    ),
)

ENGINE: Final = Row(
    "Engine: what it says of itself",
    (
        Panel(
            "Engine",
            "Whether it answers its health check.",
            "short",
            (Query(f"fairqueue_engine_up{{{OF_PROXY}}}", PROXY_NAME),),
            View.STATES,
            states=((0, "down", RED), (1, "up", GREEN)),
        ),
        Panel(
            "Waiting and running in the engine",
            "Requests that wait inside it, where their order is not ours; dashed: those that run.",
            "short",
            (
                Query(f"fairqueue_engine_waiting_requests{{{OF_PROXY}}}", PROXY_NAME),
                Query(f"fairqueue_engine_running_requests{{{OF_PROXY}}}", PROXY_NAME, dashed=True),
            ),
        ),
        Panel(
            "Age of these figures",
            "Time since the engine was asked; above a minute they are left out.",
            "s",
            (Query(f"fairqueue_engine_scrape_age_seconds{{{OF_PROXY}}}", PROXY_NAME),),
        ),
    ),
)

_PROCESSES: Final = f"{PROXIES},{OF_PROXY}"
_CPU: Final = rate("process_cpu_seconds_total", _PROCESSES)
_OUTPUT: Final = rate("fairqueue_tokens_total", f'{OF_PROXY},kind="output"')

PROXY: Final = Row(
    "Proxies: what they cost, and what they work by",
    (
        Panel("CPU", "Of one core, which is the most a proxy can use.", "percentunit", (Query(_CPU, PROXY_NAME),)),
        Panel(
            "CPU for each output token",
            "All CPU time of a proxy over the tokens that went through it.",
            "s",
            (
                Query(
                    f"sum by (job, instance) ({_CPU})\n/ (sum by (job, instance) ({_OUTPUT}) > 0)",
                    "{{instance}}",
                ),
            ),
        ),
        Panel(
            "Memory",
            "Of the process, in RAM.",
            "bytes",
            (Query(f"process_resident_memory_bytes{{{_PROCESSES}}}", PROXY_NAME),),
        ),
        Panel(
            "Open files",
            "Each connection of a client or to the engine is one.",
            "short",
            (Query(f"process_open_fds{{{_PROCESSES}}}", PROXY_NAME),),
        ),
        Panel(
            "Up for",
            "Time since the process started: where it falls, it was restarted.",
            "s",
            (Query(f"time() - process_start_time_seconds{{{_PROCESSES}}}", PROXY_NAME),),
        ),
        Panel(
            "Configurations refused",
            "1 while a proxy goes on with the last good one; dashed: how often that has happened.",
            "short",
            (
                Query(f"fairqueue_config_refused{{{OF_PROXY}}}", PROXY_NAME),
                Query(f"fairqueue_config_reload_failures_total{{{OF_PROXY}}}", PROXY_NAME, dashed=True),
            ),
        ),
        Panel(
            "Policies in force",
            "Which revision of which policy each proxy works by, and whether it only observes.",
            "short",
            (Query('fairqueue_config_info{policy=~"$policy"}', "Value"),),
            View.TABLE,
            width=24,
            hidden=("Value", *_NOISE),
        ),
    ),
)
