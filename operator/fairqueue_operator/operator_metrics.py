"""The operator's metrics. See `docs/operator.md` for what each says."""

from collections.abc import Callable
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

_BUCKETS: Final = (0.005, 0.025, 0.1, 0.5, 2.0, 10.0)

POD_STATES: Final = ("matched", "unlabelled", "injected", "started", "current")
"""As in a policy's status.pods."""


class OperatorMetrics:
    """Each is there from the start; a replica that stands by has them too, at 0."""

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
        self._policies = Gauge(
            "fairqueue_operator_policies", "Policies, by whether they are Ready.", ["ready"], registry=registry
        )
        self._orphaned = Gauge(
            "fairqueue_operator_orphaned_pods",
            "Pods whose policy was deleted: they keep its last order.",
            registry=registry,
        )
        self._pods = Gauge(
            "fairqueue_operator_pods",
            "Pods that policies select (matched), of these without the label that asks for the proxy (unlabelled), with"
            " the proxy (injected), whose proxy has started (started), and runs on the newest revision (current).",
            ["state"],
            registry=registry,
        )
        for ready in ("true", "false"):
            self._policies.labels(ready)
        for state in POD_STATES:
            self._pods.labels(state)

    def read_at_scrape(
        self,
        queue_length: Callable[[], int],
        policies: Callable[[bool], int],
        pods: Callable[[str], int],
        orphaned: Callable[[], int],
    ) -> None:
        """Where the gauges' values are, from now on."""
        self._queue_length.set_function(queue_length)
        self._policies.labels("true").set_function(lambda: policies(True))
        self._policies.labels("false").set_function(lambda: policies(False))
        for state in POD_STATES:
            self._pods.labels(state).set_function(partial(pods, state))
        self._orphaned.set_function(orphaned)

    def text(self) -> bytes:
        """What Prometheus reads."""
        return generate_latest(self._registry)
