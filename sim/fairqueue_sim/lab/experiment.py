"""Runs a workload under one scheduler after the other, and makes figures of what became of it."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from msgspec import structs

from fairqueue_api import Document
from fairqueue_sim.lab.engines import LabEngine
from fairqueue_sim.lab.fate import Course, Fate
from fairqueue_sim.lab.fronts import Front, Inside
from fairqueue_sim.lab.metrics import Series, jain, service_difference
from fairqueue_sim.lab.orders import make_order
from fairqueue_sim.lab.outside import Outside
from fairqueue_sim.lab.policies import open_policy
from fairqueue_sim.lab.result import (
    EngineWaiting,
    GapResult,
    LightTenants,
    RunResult,
    TenantResult,
    percentile,
    ttft_of,
)
from fairqueue_sim.lab.simulation import Clock, simulate
from fairqueue_sim.lab.workloads import Workload

__all__ = ["PRODUCT", "Experiment", "Run", "run_scheduler", "summarise"]

PRODUCT = "fairqueue"
LIGHT_SHARE = 1 / 25
# What comes all in less than this is judged until its last reply: its arrivals alone say little.
SHORTEST_JUDGED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Experiment:
    """What all schedulers of a comparison have in common."""

    workload: Workload
    engine: LabEngine
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """One scheduler: all that happened, and the figures."""

    course: Course
    series: Series
    result: RunResult


def run_scheduler(
    experiment: Experiment,
    scheduler: str,
    *,
    document: Document | None = None,
    on_progress: Callable[[int], None] = lambda _ended: None,
) -> Run:
    """Simulates one scheduler. `fairqueue` is the product by its defaults, with a queue that refuses nobody, as none of
    the others does; with a `document` it is the product under that policy, whatever `scheduler` names it.

    Raises:
        UnknownSchedulerError: there is none of that name.
    """
    workload, engine, clock = experiment.workload, experiment.engine, Clock()
    front: Front
    if document is not None or scheduler == PRODUCT:
        if document is None:
            document = open_policy(engine.kind, workload.tenants, workload.weights)
        else:
            document = structs.replace(document, engine=structs.replace(document.engine, kind=engine.kind))
        batch = engine.batch()
        outside = front = Outside(document, engine.report(), batch, clock, experiment.seed)
        weights: Mapping[str, int] = {
            name: tenant.node.weight for name, tenant in outside.policy.tenants.by_name.items()
        }
    else:
        weights = workload.weights
        order = make_order(scheduler, weights, kv_tokens=engine.limits.kv_tokens, seed=experiment.seed)
        batch = engine.batch(order)
        front = Inside(order, batch, min(weights.get(tenant, 1) for tenant in workload.tenants))
    course = simulate(workload.arrivals, batch, front, clock, on_progress)
    if not isinstance(front, Outside):
        course.engine_waiting.clear()
    series = Series(course.fates, workload.tenants, weights)
    return Run(course, series, summarise(scheduler, course, series, workload.tenants, weights, workload.seconds))


def summarise(
    scheduler: str | None,
    course: Course,
    series: Series,
    tenants: Sequence[str],
    weights: Mapping[str, int],
    seconds: float,
) -> RunResult:
    """The figures of a run, of which the first `seconds` are judged, or all if these are few."""
    if seconds < SHORTEST_JUDGED_SECONDS:
        seconds = max(seconds, course.ended_at)
    of: dict[str, list[Fate]] = {tenant: [] for tenant in tenants}
    for fate in course.fates:
        of[fate.arrival.tenant].append(fate)
    completed = [fate for fate in course.fates if fate.ended_at is not None]
    tokens = sum(fate.arrival.prompt_tokens + fate.arrival.output_tokens for fate in completed)
    gap, waiting = course.gap, sorted(waiting for _, waiting in course.engine_waiting)
    return RunResult(
        scheduler=scheduler,
        throughput_tokens_per_second=tokens / course.ended_at if course.ended_at else 0.0,
        service_difference=service_difference(series, seconds) if completed else None,
        jain_index=jain(series, seconds) if completed else None,
        gap=GapResult(gap.largest, gap.bound, gap.violations) if gap is not None else None,
        engine_waiting=EngineWaiting(percentile(waiting, 0.5), percentile(waiting, 0.95), waiting[-1])
        if waiting
        else None,
        tenants=tuple(_tenant(name, weights.get(name, 1), of[name]) for name in tenants),
        light_tenants=_light(of, len(course.fates)),
        refusals=dict(sorted(Counter(fate.refused for fate in course.fates if fate.refused is not None).items())),
    )


def _tenant(name: str, weight: int, fates: Sequence[Fate]) -> TenantResult:
    completed = [fate for fate in fates if fate.ended_at is not None]
    return TenantResult(
        name=name,
        weight=weight,
        requests=len(fates),
        completed=len(completed),
        refused=sum(fate.refused is not None for fate in fates),
        prompt_tokens=sum(fate.arrival.prompt_tokens for fate in completed),
        output_tokens=sum(fate.arrival.output_tokens for fate in completed),
        service=sum(fate.arrival.service for fate in completed),
        ttft_seconds=ttft_of([fate.ttft_seconds for fate in fates if fate.ttft_seconds is not None]),
    )


def _light(of: Mapping[str, Sequence[Fate]], requests: int) -> LightTenants | None:
    most = int(requests * LIGHT_SHARE)
    light = [fates for fates in of.values() if len(fates) <= most]
    if not light or len(light) == len(of):
        return None
    times = [fate.ttft_seconds for fates in light for fate in fates if fate.ttft_seconds is not None]
    return LightTenants(most, len(light), ttft_of(times))
