"""What /metrics has: names, kinds, labels, meanings. `docs/metrics.md` is made of this."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """As the text format has it (Prometheus, "Exposition formats")."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """A metric with all its label values; `labels` are without a histogram's `le`."""

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...] = ()

    @property
    def head(self) -> str:
        """The lines before its first sample."""
        return f"# HELP {self.name} {self.text}\n# TYPE {self.name} {self.kind.value}\n"


_TENANT: Final = ("tenant",)

REQUESTS = Family("fairqueue_requests_total", Kind.COUNTER, "Requests by how they ended.", ("tenant", "outcome"))
OBSERVED_REFUSALS = Family(
    "fairqueue_observed_refusals_total",
    Kind.COUNTER,
    "Requests that were relayed and would have been refused, had the policy not only observed.",
    ("tenant", "outcome"),
)
TOKENS = Family("fairqueue_tokens_total", Kind.COUNTER, "Tokens charged.", ("tenant", "kind"))
SERVICE = Family("fairqueue_service_total", Kind.COUNTER, "Cost units charged.", _TENANT)
ENTITLED_SERVICE = Family(
    "fairqueue_entitled_service_total",
    Kind.COUNTER,
    "Cost units that were the tenant's weighted share, among all with a request queued or in the engine, while it was"
    " backlogged.",
    _TENANT,
)
OWED_SERVICE = Family(
    "fairqueue_owed_service",
    Kind.GAUGE,
    "Cost units that were let in of the tenant's less than its share, since it has had requests waiting without a"
    " break.",
    _TENANT,
)
BACKLOGGED_SECONDS = Family(
    "fairqueue_backlogged_seconds_total",
    Kind.COUNTER,
    "Time with a queued request that the tenant's own limits allow.",
    _TENANT,
)
QUEUE_REQUESTS = Family("fairqueue_queue_requests", Kind.GAUGE, "Requests queued in the proxy.", _TENANT)
IN_FLIGHT_REQUESTS = Family("fairqueue_in_flight_requests", Kind.GAUGE, "Requests in the engine.", _TENANT)
TENANT_WEIGHT = Family("fairqueue_tenant_weight", Kind.GAUGE, "The tenant's weight.", _TENANT)
VIRTUAL_COUNTER = Family(
    "fairqueue_virtual_counter", Kind.GAUGE, "What the tenant is ordered by, in cost units over weight.", _TENANT
)
QUEUE_SECONDS = Family("fairqueue_queue_seconds", Kind.HISTOGRAM, "Time from queued to let in.", _TENANT)
FIRST_TOKEN_SECONDS = Family(
    "fairqueue_time_to_first_token_seconds",
    Kind.HISTOGRAM,
    "Time from arrival to the first token (plain replies: to their end).",
    _TENANT,
)
REQUEST_SECONDS = Family("fairqueue_request_seconds", Kind.HISTOGRAM, "Time from arrival to the end.", _TENANT)
FAIRNESS_GAP = Family(
    "fairqueue_fairness_gap",
    Kind.GAUGE,
    "Largest less smallest counter of a group's backlogged members (root: empty name).",
    ("group",),
)
FAIRNESS_BOUND = Family("fairqueue_fairness_bound", Kind.GAUGE, "What fairness_gap never exceeds.", ("group",))
CAPACITY_LIMIT = Family(
    "fairqueue_capacity_limit", Kind.GAUGE, "The most that is let into the engine at once.", ("budget", "source")
)
CAPACITY_USED = Family("fairqueue_capacity_used", Kind.GAUGE, "How much of it is in use.", ("budget",))
IDLE_CAPACITY_SECONDS = Family(
    "fairqueue_idle_capacity_seconds_total", Kind.COUNTER, "Time in which somebody waited and something was free."
)
METERING_DRIFT = Family(
    "fairqueue_metering_drift_tokens_total",
    Kind.COUNTER,
    "Counted while streaming against what the engine said at the end.",
    ("direction",),
)
MALFORMED_EVENTS = Family(
    "fairqueue_malformed_events_total",
    Kind.COUNTER,
    "Events of the engine that could not be read; they were passed on as they were.",
)
ENGINE_UP = Family("fairqueue_engine_up", Kind.GAUGE, "1 when the engine is healthy.")
ENGINE_WAITING = Family(
    "fairqueue_engine_waiting_requests", Kind.GAUGE, "Requests that wait inside the engine, as it reports."
)
ENGINE_RUNNING = Family(
    "fairqueue_engine_running_requests", Kind.GAUGE, "Requests that run in the engine, as it reports."
)
ENGINE_SCRAPE_AGE = Family(
    "fairqueue_engine_scrape_age_seconds",
    Kind.GAUGE,
    "Time since these two were read; they are left out when it is long.",
)
CONFIG_INFO = Family("fairqueue_config_info", Kind.GAUGE, "The policy in force.", ("policy", "revision", "mode"))
CONFIG_REFUSED = Family(
    "fairqueue_config_refused", Kind.GAUGE, "1 while the newest document or policy file could not be used."
)
CONFIG_RELOAD_FAILURES = Family(
    "fairqueue_config_reload_failures_total",
    Kind.COUNTER,
    "Documents and policy files that could not be used; the last good one stayed in force.",
)
USAGE_LOG_WRITTEN_LINES = Family(
    "fairqueue_usage_log_written_lines_total",
    Kind.COUNTER,
    "Lines of the usage log that are on the disk (with --usage-log).",
)
USAGE_LOG_LOST_LINES = Family(
    "fairqueue_usage_log_lost_lines_total",
    Kind.COUNTER,
    "Lines of the usage log that could not be written, or were deleted before they were collected.",
)
USAGE_LOG_WAITING_SECONDS = Family(
    "fairqueue_usage_log_waiting_seconds",
    Kind.GAUGE,
    "How long lines of the usage log have been waiting to be written: more than seconds where the disk is in trouble.",
)

FAMILIES: Final = tuple(found for found in list(globals().values()) if isinstance(found, Family))
"""All of them, in the order in which they are shown."""
