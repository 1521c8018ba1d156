"""What a pod's proxy says of itself in its /metrics: who waits, who is being served, by which revision. Pure."""

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True, slots=True)
class ProxyReport:
    """`revision` is empty where it has no document yet; `failures` counts documents that it could not use."""

    policy: str
    revision: str
    waiting: int
    in_flight: int
    failures: int


def read_report(metrics: str) -> ProxyReport:
    """From the text of /metrics. Raises `ValueError` if that is something else."""
    try:
        report = _read(metrics)
    except (ValueError, OverflowError):
        report = None
    if report is None:
        raise ValueError("what answers there is not fairqueue's proxy")
    return report


def _read(metrics: str) -> ProxyReport | None:
    waiting = in_flight = failures = 0
    policy = revision = ""
    is_proxy = False
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            match sample.name:
                case "fairqueue_queue_requests":
                    waiting += int(sample.value)
                case "fairqueue_in_flight_requests":
                    in_flight += int(sample.value)
                case "fairqueue_config_info":
                    policy, revision = sample.labels.get("policy", ""), sample.labels.get("revision", "")
                case "fairqueue_config_reload_failures_total":
                    failures, is_proxy = int(sample.value), True
    return ProxyReport(policy, revision, waiting, in_flight, failures) if is_proxy else None
