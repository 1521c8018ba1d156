"""Recording rules: what alerts and dashboard both ask for. Names are level:metric:operation (Prometheus, "Recording
rules"); windows in names are those of factor 1. Labels that are not summed away stay: one series for each proxy. And
`cluster` always does: where one Prometheus has several, a policy's name says too little.
"""

from dataclasses import dataclass
from typing import Final

from .durations import HOUR, MINUTE, Durations


@dataclass(frozen=True, slots=True)
class Recording:
    """One rule; `text` says what its value is."""

    name: str
    expression: str
    text: str


CAPACITY_REFUSALS: Final = "queue_full|queue_timeout|engine_unavailable"
"""Outcomes that mean: there is not enough of the engine."""
_REFUSED: Final = f',outcome=~"{CAPACITY_REFUSALS}"'


def recordings(duration: Durations) -> list[Recording]:
    """In the order in which they build on each other."""
    five, fifteen, hour = duration(5 * MINUTE), duration(15 * MINUTE), duration(HOUR)
    return [
        Recording(
            "fairqueue:tenant_service:rate5m",
            f"rate(fairqueue_service_total[{five}])",
            "Cost units a second that a tenant was charged by a proxy.",
        ),
        Recording(
            "fairqueue:tenant_entitled_service:rate5m",
            f"rate(fairqueue_entitled_service_total[{five}])",
            "Cost units a second that were its weighted share while it was backlogged.",
        ),
        Recording(
            "fairqueue:tenant_backlogged:ratio5m",
            f"rate(fairqueue_backlogged_seconds_total[{five}])",
            "Share of time in which it was backlogged, 0 to 1.",
        ),
        Recording(
            "fairqueue:fairness_bound:max",
            "max without (group) (fairqueue_fairness_bound)",
            "The largest bound of a proxy's groups.",
        ),
        Recording(
            "fairqueue:tenant_owed_to_bound:ratio",
            "fairqueue_owed_service / (fairqueue_tenant_weight > 0)"
            "\n/ ignoring (tenant) group_left () (fairqueue:fairness_bound:max > 0)",
            "What a tenant that waits is owed, over its weight and the bound; a fair proxy never owes twice the bound.",
        ),
        Recording(
            "fairqueue:policy:info",
            "max without (revision) (fairqueue_config_info)",
            "1 for each proxy, with its policy.",
        ),
        Recording(
            "fairqueue:observing:max10m",
            "max without (policy, revision, mode)"
            f' (max_over_time(fairqueue_config_info{{mode="Observe"}}[{duration(10 * MINUTE)}]))',
            "1 for each proxy that only observed within the last ten minutes: the order is the engine's.",
        ),
        Recording(
            "fairqueue:policy_tenant_service:rate5m",
            "sum by (cluster, policy, tenant) (fairqueue:tenant_service:rate5m"
            "\n* ignoring (tenant, policy, mode) group_left (policy) fairqueue:policy:info)",
            "Cost units a second that a tenant was charged by all proxies of a policy.",
        ),
        Recording(
            "fairqueue:policy_tenant_entitled_service:rate5m",
            "sum by (cluster, policy, tenant) (fairqueue:tenant_entitled_service:rate5m"
            "\n* ignoring (tenant, policy, mode) group_left (policy) fairqueue:policy:info)",
            "Cost units a second that were its weighted share in them.",
        ),
        Recording(
            "fairqueue:refused_requests:ratio5m",
            _refused(five),
            "Share of a proxy's requests that it refused because there is not enough of the engine.",
        ),
        Recording("fairqueue:refused_requests:ratio1h", _refused(hour), "The same over an hour."),
        Recording(
            "fairqueue:refused_requests:increase1h", _requests("increase", hour, _REFUSED), "How many those were."
        ),
        Recording(
            "fairqueue:metering_drift:ratio15m",
            f"{metering_drift(fifteen)}"
            f'\n/ (sum without (tenant, kind) (increase(fairqueue_tokens_total{{kind="output"}}[{fifteen}])) > 0)',
            "Output tokens that were charged only at the end, or given back then, over all.",
        ),
        Recording(
            "fairqueue:capacity_used:ratio5m",
            f'max without (budget) (avg_over_time(fairqueue_capacity_used{{budget!="unstarted"}}[{five}])'
            f'\n/ max without (source) (avg_over_time(fairqueue_capacity_limit{{budget!="unstarted"}}[{five}])))',
            "How much of its tightest budget a proxy used; nothing where no limit is known.",
        ),
        Recording(
            "fairqueue:idle_capacity:ratio5m",
            f"rate(fairqueue_idle_capacity_seconds_total[{five}])",
            "Share of time in which somebody waited and something was free.",
        ),
    ]


def metering_drift(window: str) -> str:
    """Tokens that were counted while streaming and not at the end, or the other way round."""
    return f"sum without (direction) (increase(fairqueue_metering_drift_tokens_total[{window}]))"


def _refused(window: str) -> str:
    return f"{_requests('rate', window, _REFUSED)}\n/ ({_requests('rate', window)} > 0)"


def _requests(operation: str, window: str, outcomes: str = "") -> str:
    """Of tenants, at a proxy."""
    return f'sum without (tenant, outcome) ({operation}(fairqueue_requests_total{{tenant!=""{outcomes}}}[{window}]))'
