"""Several measurements of one thing: the best, which the machine disturbed least, and how far off the others are."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

__all__ = ["Spread", "spread_of"]


@dataclass(frozen=True, slots=True)
class Spread:
    """All in one unit."""

    best: float
    median: float
    worst: float


def spread_of(values: Sequence[float]) -> Spread:
    """Of at least one value; less is better."""
    return Spread(min(values), median(values), max(values))
