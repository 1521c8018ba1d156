"""From pairs of figures to a verdict: the median ratio, how sure it is, and whether that is enough.

Pure; chance comes from a fixed seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Ratio", "median_ratio", "more_pairs_help", "order_of", "percentile"]

GOAL = 0.98
WIDEST = 0.02
RESAMPLES = 10_000
COVERAGE_PERCENT = 95.0


@dataclass(frozen=True, slots=True)
class Ratio:
    """A median with its bootstrap interval."""

    median: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2

    @property
    def met(self) -> bool:
        """At least the goal; or too near to it to tell, by a measurement that is sharp enough."""
        return self.median >= GOAL or (self.half_width <= WIDEST and self.low <= GOAL <= self.high)


def order_of(pair: int) -> tuple[str, str]:
    """Which half of a pair comes first: in turn, so that a machine that becomes slower favours neither."""
    return ("direct", "proxied") if pair % 2 == 0 else ("proxied", "direct")


def median_ratio(ratios: Sequence[float]) -> Ratio:
    """Of at least one ratio."""
    values = np.asarray(ratios, dtype=float)
    chosen = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    medians = np.median(values[chosen], axis=1)
    edge = (100 - COVERAGE_PERCENT) / 2
    low, high = np.percentile(medians, [edge, 100 - edge])
    return Ratio(float(np.median(values)), float(low), float(high))


def more_pairs_help(ratios: Sequence[float], least: int, most: int) -> bool:
    """Whether to go on: as long as there are too few, or the goal is missed by a measurement that is not sharp."""
    if len(ratios) < least:
        return True
    ratio = median_ratio(ratios)
    return len(ratios) < most and ratio.median < GOAL and ratio.half_width > WIDEST


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least so much of all does not exceed; 0 of nothing."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    return ordered[min(max(int(np.ceil(share * len(ordered))) - 1, 0), len(ordered) - 1)]
