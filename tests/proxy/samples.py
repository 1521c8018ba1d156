"""Samples of a Prometheus text, read by Prometheus's own client library."""

from prometheus_client.parser import text_string_to_metric_families

Series = tuple[str, tuple[tuple[str, str], ...]]
"""A name and sorted labels."""


def samples(text: str) -> dict[Series, float]:
    """Every sample by name and sorted labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def sample(text: str, name: str, **labels: str) -> float:
    """One sample, its name without the prefix; KeyError if it is not there."""
    return samples(text)[f"fairqueue_{name}", tuple(sorted(labels.items()))]


def counters(text: str) -> dict[Series, float]:
    """Every sample that must never fall: those of counters and of histograms."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        if family.type in ("counter", "histogram")
        for sample in family.samples
    }


FROM_THE_START = {
    f"fairqueue_{name}"
    for name in ("tokens_total", "service_total", "entitled_service_total", "backlogged_seconds_total")
}
"""Series of these are there before anything is counted. Of others Prometheus does not see what they begin with."""


class Increases:
    """Adds up by how much counters have grown over all that was scraped, as Prometheus's increase() does: what falls
    has begun anew at 0. `restarts` are the series that did."""

    def __init__(self) -> None:
        self._last: dict[Series, float] = {}
        self._found: dict[Series, float] = {}
        self.restarts: set[Series] = set()

    def scrape(self, text: str, *, from_0: bool = False) -> None:
        """The next scrape. `from_0`: as if somebody had been there before it, and seen all of them at 0."""
        for series, value in counters(text).items():
            before = self._last.get(series, value if series[0] in FROM_THE_START and not from_0 else 0.0)
            if value < before:
                self.restarts.add(series)
                before = 0.0
            self._found[series] = self._found.get(series, 0.0) + value - before
            self._last[series] = value

    def of(self, name: str, **labels: str) -> float:
        """Over all series of a metric that have these labels; its name without the prefix."""
        return sum(
            value
            for (found, given), value in self._found.items()
            if found == f"fairqueue_{name}" and labels.items() <= dict(given).items()
        )

    def totals(self) -> dict[str, float]:
        """Each counter over all its series."""
        found: dict[str, float] = {}
        for (name, _), value in self._found.items():
            found[name] = found.get(name, 0.0) + value
        return found
