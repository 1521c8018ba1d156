"""The operator's metrics. See `docs/operator.md` for what each says."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from fairqueue_api.status import POD_STATES

_BUCKETS: Final = (0.005, 0.025, 0.1, 0.5, 2.0, 10.0)


@dataclass(frozen=True, slots=True)
class PolicyFigures:
    """What the status of a policy says."""

    name: str
    """namespace/name"""
    is_ready: bool
    reason: str
    """Of the condition Ready; empty if there is none yet."""
    pods: Mapping[str, int]
    """By state, as far as they have been counted."""


class _Policies(Collector):
    """Of each policy that there is when it is read."""

    def __init__(self) -> None:
        self.read: Callable[[], Iterable[PolicyFigures]] = tuple

    def collect(self) -> Iterable[GaugeMetricFamily]:
        ready = GaugeMetricFamily(
            "fairqueue_operator_policy_ready",
            "1 if the policy (namespace/name) is Ready, with the reason of that condition.",
            labels=["policy", "reason"],
        )
        pods = GaugeMetricFamily(
            "fairqueue_operator_pods",
            "Pods that the policy selects (matched), of these without the label that asks for the proxy (unlabelled),"
            " with the proxy (injected), whose proxy has started (started), and runs on the newest revision (current).",
            labels=["policy", "state"],
        )
        for policy in self.read():
            ready.add_metric([policy.name, policy.reason], int(policy.is_ready))
            for state in POD_STATES:
                pods.add_metric([policy.name, state], policy.pods.get(state, 0))
        return ready, pods


class OperatorMetrics:
    """Each is there from the start, but for those of policies: only the replica that works knows of them."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = self._registry = CollectorRegistry()
        self.seconds = Histogram(
            "fairqueue_operator_reconcile_seconds",
            "From taking up a policy to having done what it needed.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self.errors = Counter(
            "fairqueue_operator_reconcile_errors_total",
            "Times that it could not be done, and is tried again.",
            registry=registry,
        )
        self.writes = Counter(
            "fairqueue_operator_writes_total",
            "Writes to the API server, by what was written.",
            ["what"],
            registry=registry,
        )
        for what in ("document", "status", "nudge"):
            self.writes.labels(what)
        self.leading = Gauge("fairqueue_operator_leading", "1 in the replica that does the work.", registry=registry)
        self.listed_at = Gauge(
            "fairqueue_operator_last_list_timestamp_seconds",
            "When everything was listed last, which finds what watches have missed: every five minutes.",
            registry=registry,
        )
        self._queue_length = Gauge(
            "fairqueue_operator_queue_length", "Policies that wait to be looked at.", registry=registry
        )
        self._orphaned = Gauge(
            "fairqueue_operator_orphaned_pods",
            "Pods whose policy was deleted: they keep its last order.",
            registry=registry,
        )
        self._policies = _Policies()
        registry.register(self._policies)

    def read_at_scrape(
        self,
        queue_length: Callable[[], int],
        policies: Callable[[], Iterable[PolicyFigures]],
        orphaned: Callable[[], int],
    ) -> None:
        """Where the gauges' values are, from now on."""
        self._queue_length.set_function(queue_length)
        self._policies.read = policies
        self._orphaned.set_function(orphaned)

    def text(self) -> bytes:
        """What Prometheus reads."""
        return generate_latest(self._registry)
