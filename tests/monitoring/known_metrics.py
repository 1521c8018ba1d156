"""Every series that our rules and panels may name, with its labels, and what fixed labels may be; from the code that
shows them, where there is such a list."""

from collections.abc import Iterable, Mapping

from prometheus_client.parser import text_string_to_metric_families

from fairqueue_api.status import POD_STATES
from fairqueue_monitoring.metrics_page import Described, injector_metrics, operator_metrics, proxy_metrics
from fairqueue_monitoring.rule_files import Rules
from fairqueue_operator.injector_metrics import InjectorMetrics
from fairqueue_operator.operator_metrics import OperatorMetrics
from fairqueue_proxy.outcome import Outcome
from monitoring.promql_labels import Checking, Labels

# Of every target, what a PodMonitor adds, and what whoever has several clusters in one Prometheus adds.
TARGET = frozenset({"job", "instance", "namespace", "pod", "container", "endpoint", "cluster"})
ALERT = frozenset({"alertname", "alertstate", "severity"})


def _series(metrics: Iterable[Described]) -> dict[str, Labels]:
    found: dict[str, Labels] = {}
    for metric in metrics:
        labels = TARGET | set(metric.labels)
        if metric.kind == "histogram":
            found |= {f"{metric.name}_sum": labels, f"{metric.name}_count": labels}
            found[f"{metric.name}_bucket"] = labels | {"le"}
        else:
            found[metric.name] = labels
    return found


SCRAPED: Mapping[str, Labels] = {
    "up": TARGET,
    **_series(proxy_metrics()),
    **_series(operator_metrics()),
    **_series(injector_metrics()),
}


def fixed_values() -> dict[str, frozenset[str]]:
    """Of operator and injector: what their pages show from the start."""
    values: dict[str, set[str]] = {}
    for metrics in (OperatorMetrics(), InjectorMetrics()):
        for family in text_string_to_metric_families(metrics.text().decode()):
            for sample in family.samples:
                for label, value in sample.labels.items():
                    values.setdefault(label, set()).add(value)
    del values["le"]
    return {
        **{label: frozenset(found) for label, found in values.items()},
        "outcome": frozenset(outcome.value for outcome in Outcome),
        "kind": frozenset({"input", "cached_input", "output"}),
        "budget": frozenset({"requests", "tokens", "prefill", "unstarted"}),
        "source": frozenset({"policy", "engine", "learned"}),
        "direction": frozenset({"over", "under"}),
        "state": frozenset(POD_STATES),
        "mode": frozenset({"Enforce", "Observe"}),
        "job": frozenset({"fairqueue-proxy", "fairqueue-operator", "fairqueue-injector"}),
        "alertstate": frozenset({"pending", "firing"}),
        "alertname": frozenset(alert.name for alert in Rules().alerts),
    }


def checking(known: Mapping[str, Labels] = SCRAPED) -> Checking:
    """One that knows these."""
    return Checking(known, fixed_values())


def with_recordings() -> dict[str, Labels]:
    """What is scraped, and what our rules make of it."""
    known = dict(SCRAPED)
    for rule in Rules().recordings:
        known[rule.name] = checking(known).result(rule.expression)
    alerts: Labels = ALERT
    for alert in Rules().alerts:
        alerts |= checking(known).result(alert.expression)
    known["ALERTS"] = alerts
    return known
