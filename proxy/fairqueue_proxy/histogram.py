"""A Prometheus histogram of plain integers: one list increment an observation, no library in the request path."""

from bisect import bisect_left
from collections.abc import Iterable

QUEUE_SECONDS = (0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0)
FIRST_TOKEN_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
REQUEST_SECONDS = (0.5, 1.0, 5.0, 15.0, 60.0, 300.0)


class Histogram:
    """Counts below each bound, the rest above the last."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Takes in one value, in seconds."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """One histogram of all that was observed in several of the same bounds, at least one."""
    first, *others = histograms
    if not others:
        return first
    whole = Histogram(first.bounds)
    for histogram in (first, *others):
        whole.counts = [mine + theirs for mine, theirs in zip(whole.counts, histogram.counts, strict=True)]
        whole.total += histogram.total
    return whole
