"""What a picture of a run shows: figures of each tenant at many moments, and the few tenants that stand for all."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fairqueue_sim.lab.experiment import Run
from fairqueue_sim.lab.metrics import DIVISIONS, HALF_WINDOW_SECONDS, Array
from fairqueue_sim.lab.workloads import Workload

__all__ = ["Curves", "curves_of", "half_window", "requests_of", "telling_tenants"]

MOMENTS = 201
MOST_NAMED = 6


@dataclass(frozen=True, slots=True)
class Curves:
    """One run. Each table has a row for each moment and a column for each tenant; NaN: there is nothing to show."""

    seconds: Array
    served: Array
    rates: Array
    waits: Array


def half_window(runs: Sequence[Run]) -> float:
    """Half the seconds over which rates and waits are averaged: as with the figures, but by how long all runs last."""
    return min(HALF_WINDOW_SECONDS, max((run.course.ended_at for run in runs), default=0.0) / DIVISIONS)


def curves_of(run: Run, half: float, until: float) -> Curves:
    """The figures of a run from its start `until` some moment, at most its last reply. Windows that reach beyond the
    start or the last reply are cut there."""
    series, end = run.series, run.course.ended_at
    if end <= 0:
        nothing = np.empty((0, len(series.tenants)))
        return Curves(np.empty(0), nothing, nothing, nothing)
    moments = np.linspace(0, min(end, until), MOMENTS)
    spans = [(max(at - half, 0.0), min(at + half, end)) for at in moments]
    return Curves(
        moments,
        served=np.array([series.service(0, at) for at in moments]),
        rates=np.array([series.service(start, stop) / (stop - start) for start, stop in spans]),
        waits=np.array([series.mean_ttft(start, stop) for start, stop in spans]),
    )


def requests_of(workload: Workload) -> dict[str, int]:
    """How many requests each tenant sends."""
    return Counter(arrival.tenant for arrival in workload.arrivals)


def telling_tenants(workload: Workload, most: int = MOST_NAMED) -> list[str]:
    """The tenants to look at, by what they ask for from most to least: all of them if they are few, else the two that
    ask for most, the two that ask for least, and some in between at even steps."""
    ranked = _ranked(workload)
    if len(ranked) <= most:
        return ranked
    last = len(ranked) - 1
    between = np.linspace(1, last - 1, most - 2).round().astype(int)
    return [ranked[place] for place in (0, *between, last)]


def _ranked(workload: Workload) -> list[str]:
    asked = dict.fromkeys(workload.tenants, 0)
    for arrival in workload.arrivals:
        asked[arrival.tenant] += arrival.service
    return sorted(asked, key=lambda tenant: -asked[tenant])
