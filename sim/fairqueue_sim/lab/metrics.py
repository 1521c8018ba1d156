"""Figures of fairness, by the definitions of the VTC paper's own evaluation (OSDI '24; its artifact's `visualize.py`).

Service is what was served, in cost units (1 for a prompt token, 2 for an output token), spread evenly over a request's
decoding. With weights, service and demand are divided by them. Figures leave out a warm-up, as fairness is promised
between those who are backlogged.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fairqueue_sim.lab.fate import Fate
from fairqueue_sim.lab.result import ServiceDifferenceResult

__all__ = ["Series", "jain", "service_difference"]

HALF_WINDOW_SECONDS = 30.0
DIVISIONS = 20
# Half a window is no more than such a part of the whole.
SHORTEST_PART = 10
SHORTEST_DECODE_SECONDS = 1e-5
Array = NDArray[np.float64]


class Series:
    """All requests that were served, by tenant, ready to be asked about any span of time."""

    def __init__(self, fates: Sequence[Fate], tenants: Sequence[str], weights: Mapping[str, int]) -> None:
        self.tenants = list(tenants)
        index = {tenant: number for number, tenant in enumerate(tenants)}
        self._weights = np.array([weights.get(tenant, 1) for tenant in tenants], dtype=float)
        # A request that was refused has no part in any of this: it is asked about by its count only.
        served = [it for it in fates if it.first_token_at is not None and it.ended_at is not None]
        self._tenant = np.array([index[it.arrival.tenant] for it in served], dtype=int)
        self._arrived = np.array([it.arrival.seconds for it in served], dtype=float)
        self._started = np.array([it.started_at for it in served], dtype=float)
        self._first = np.array([it.first_token_at for it in served], dtype=float)
        self._ended = np.array([it.ended_at for it in served], dtype=float)
        self._cost = np.array([it.arrival.service for it in served], dtype=float)
        # Of each tenant, in order of arrival.
        order = np.argsort(self._tenant, kind="stable")
        self._own = np.split(order, np.searchsorted(self._tenant[order], np.arange(1, len(tenants))))

    def service(self, start: float, end: float, *, per_weight: bool = True) -> Array:
        """Cost units served to each tenant in a span of seconds."""
        lasted = self._ended - self._first
        overlap = np.clip(np.minimum(end, self._ended) - np.maximum(start, self._first), 0, None)
        # What has no length (a single token) can't be spread: the artifact leaves it out.
        counted = (lasted >= SHORTEST_DECODE_SECONDS) & (self._ended >= 1)
        part = np.where(counted, overlap / np.maximum(lasted, SHORTEST_DECODE_SECONDS), 0.0)
        return self._per_tenant(self._cost * part, per_weight)

    def demand(self, start: float, end: float) -> Array:
        """Cost units of what each tenant has asked for in a span of seconds, over its weight."""
        inside = (self._arrived >= start) & (self._arrived <= end)
        return self._per_tenant(np.where(inside, self._cost, 0.0), per_weight=True)

    def mean_ttft(self, start: float, end: float) -> Array:
        """Mean time to first token of what had its first token in a span; NaN where there was nothing."""
        inside = (self._first >= start) & (self._first <= end)
        size = len(self.tenants)
        counts = np.bincount(self._tenant[inside], minlength=size)
        sums = np.bincount(self._tenant[inside], (self._first - self._arrived)[inside], minlength=size)
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)

    def backlogged(self, start: float, end: float) -> NDArray[np.bool_]:
        """Which tenants had something waiting at every moment of a span."""
        steady = np.zeros(len(self.tenants), dtype=bool)
        for tenant, own in enumerate(self._own):
            arrived, started = self._arrived[own], self._started[own]
            # Somebody waits without a break as long as each arrives before all that came before have started.
            reached = np.maximum(np.concatenate(([start], np.maximum.accumulate(started)[:-1])), start)
            gaps = arrived > reached[: len(arrived)]
            steady[tenant] = len(own) and not np.any(gaps & (reached[: len(arrived)] < end)) and started.max() >= end
        return steady

    def _per_tenant(self, amounts: Array, per_weight: bool) -> Array:
        sums = np.bincount(self._tenant, amounts, minlength=len(self.tenants)).astype(float)
        return sums / self._weights if per_weight else sums


def windows(seconds: float) -> list[tuple[float, float]]:
    """The spans over which differences are taken: a minute each, 19 of them, after a warm-up of half a minute. What
    lasts less than five minutes has proportionally shorter ones."""
    half = min(HALF_WINDOW_SECONDS, seconds / SHORTEST_PART)
    step = (seconds - half) / DIVISIONS
    return [(step * number, step * number + 2 * half) for number in range(1, DIVISIONS)]


def service_difference(series: Series, seconds: float) -> ServiceDifferenceResult:
    """How much less than the best served each tenant got, as far as it wanted more: summed over tenants (section 5.1).

    It does not see demand that was refused.
    """
    differences = []
    for start, end in windows(seconds):
        served = series.service(start, end) / (end - start)
        wanted = series.demand(start, end) / (end - start)
        differences.append(float(np.minimum(served.max(initial=0.0) - served, np.abs(wanted - served)).sum()))
    values = np.array(differences)
    return ServiceDifferenceResult(float(values.max()), float(values.mean()), float(values.var()))


def jain(series: Series, seconds: float) -> float | None:
    """Jain's index of service among the tenants that are backlogged throughout, the mean over all windows in which
    there are at least two; None if there is none. 1 is equal, 1/n all to one of n."""
    indices = []
    for start, end in windows(seconds):
        served = series.service(start, end)[series.backlogged(start, end)]
        squares = float((served**2).sum())
        if len(served) > 1 and squares > 0:
            indices.append(float(served.sum()) ** 2 / (len(served) * squares))
    return float(np.mean(indices)) if indices else None
