"""Samples of a Prometheus text, read by Prometheus's own client library."""

from prometheus_client.parser import text_string_to_metric_families


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample by name and sorted labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def sample(text: str, name: str, **labels: str) -> float:
    """One sample, its name without the prefix; KeyError if it is not there."""
    return samples(text)[f"fairqueue_{name}", tuple(sorted(labels.items()))]


def counters(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample that must never fall: those of counters and of histograms."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        if family.type in ("counter", "histogram")
        for sample in family.samples
    }


def totals(text: str) -> dict[str, float]:
    """Each counter over all its labels."""
    found: dict[str, float] = {}
    for (name, _), value in counters(text).items():
        found[name] = found.get(name, 0.0) + value
    return found
