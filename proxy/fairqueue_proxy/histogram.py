"""A Prometheus histogram of plain integers: one list increment an observation, no library in the request path."""

from bisect import bisect_left

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

    def copy(self) -> "Histogram":
        """As it is now."""
        copied = Histogram(self.bounds)
        copied.counts, copied.total = self.counts.copy(), self.total
        return copied

    def add(self, now: "Histogram", before: "Histogram") -> None:
        """Takes in by how much another one of the same bounds has grown."""
        grown = zip(self.counts, now.counts, before.counts, strict=True)
        self.counts = [mine + more - less for mine, more, less in grown]
        self.total += now.total - before.total
