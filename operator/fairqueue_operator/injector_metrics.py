"""The injector's metrics. Every decision is there from the start, at 0: an alert on one must not wait for the first."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from .verdict import DECISIONS, Verdict

# In seconds; the webhook's time limit is 5 s.
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 5.0)


class InjectorMetrics:
    """See `docs/injector.md` for what each says."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._decisions = Counter(
            "fairqueue_injector_decisions_total",
            "Pods decided on, by decision; dry runs count too.",
            ["decision"],
            registry=self._registry,
        )
        self._admission_seconds = Histogram(
            "fairqueue_injector_admission_seconds",
            "From an admission request to its answer.",
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._not_after = Gauge(
            "fairqueue_certificate_not_after_seconds",
            "When the certificate that is being served ends, in seconds since 1970.",
            registry=self._registry,
        )
        self._bare_pods = Gauge(
            "fairqueue_injector_bare_pods",
            "Pods that ask for the proxy and have none, as they are older than the webhook or than their label.",
            registry=self._registry,
        )
        for decision in DECISIONS:
            self._decisions.labels(decision)

    def decided(self, verdict: Verdict, seconds: float) -> None:
        """One admission request was answered."""
        self._decisions.labels(verdict.reason.value).inc()
        self._admission_seconds.observe(seconds)

    def serves_until(self, not_after_seconds: float) -> None:
        """Another certificate is served."""
        self._not_after.set(not_after_seconds)

    def bare_pods(self, count: int) -> None:
        """So many were found at the last look."""
        self._bare_pods.set(count)

    def text(self) -> bytes:
        """What Prometheus reads."""
        return generate_latest(self._registry)
