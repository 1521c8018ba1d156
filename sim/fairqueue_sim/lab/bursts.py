"""Bursts at an idle engine, and light load, in simulations: what there is room for is to be in the engine at once.

A burst comes to a product that has only just started, or that has learned from other requests and has been idle since;
and to the engine directly. What is compared is how soon the engine is full the first time; and nothing is to stand in
its queue then.
"""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import product
from random import Random

from fairqueue_sim.generation import Generation
from fairqueue_sim.lab.changes import (
    KV_TOKENS,
    RULES,
    TRANSIT_SECONDS,
    Lengths,
    arrival_of,
    lab_engine,
    requests_per_second,
)
from fairqueue_sim.lab.engines import RulesName
from fairqueue_sim.lab.fronts import Front, Inside
from fairqueue_sim.lab.marks import line
from fairqueue_sim.lab.orders import make_order
from fairqueue_sim.lab.outside import Outside
from fairqueue_sim.lab.policies import open_policy
from fairqueue_sim.lab.result import percentile
from fairqueue_sim.lab.simulation import Clock, simulate
from fairqueue_sim.lab.staged import FarEngine, Staged
from fairqueue_sim.lab.trace import Arrival

__all__ = [
    "LESSONS",
    "BurstFigure",
    "LightFigure",
    "burst_figure",
    "burst_figures",
    "burst_table",
    "light_figure",
    "light_figures",
]

LENGTHS: Lengths = (256, 64)
BURST = 200
LESSON_REQUESTS = 120
# By then all that was to be learned from has ended.
BURST_AT_SECONDS = 400.0
LESSONS: dict[str, Lengths | None] = {"nothing": None, "such requests": LENGTHS, "long requests": (512, 512)}
MOST_TIMES_AS_LONG, MOST_STANDING = 1.2, 2
LIGHT_PART, LIGHT_SECONDS, MOST_ADDED_SECONDS = 0.3, 600.0, 0.001


@dataclass(frozen=True, slots=True)
class BurstFigure:
    """From the burst until the engine is full, directly and behind the product, which has learned from `lesson`.
    None: it never was. `standing` is how many wait in the engine that would have fitted, from then on (p95)."""

    lesson: str
    rules: RulesName
    direct_seconds: float | None
    full_seconds: float | None
    standing: int

    @property
    def kept(self) -> bool:
        """Full within 1.2 times as long, and then no queue."""
        if self.direct_seconds is None or self.full_seconds is None:
            return False
        return self.full_seconds <= MOST_TIMES_AS_LONG * self.direct_seconds and self.standing <= MOST_STANDING


@dataclass(frozen=True, slots=True)
class LightFigure:
    """Time in the product's queue (p99) of those for whom the engine had room when they came."""

    rules: RulesName
    requests: int
    found_room: int
    queue_seconds: float

    @property
    def kept(self) -> bool:
        """No added wait."""
        return self.queue_seconds < MOST_ADDED_SECONDS


def _stage(rules: RulesName, *, direct: bool) -> tuple[Staged, FarEngine, Clock]:
    engine, clock = lab_engine(rules, None), Clock()
    order = make_order("fcfs", {}, kv_tokens=KV_TOKENS, seed=0)
    far = FarEngine(engine.batch(order if direct else None), clock, TRANSIT_SECONDS)
    document = open_policy(engine.kind, ["one"], {})
    inside: Front = Inside(order, far.batch, 1)
    front = inside if direct else Outside(document, engine.report(), far, clock, 0)
    return Staged(front, far, clock), far, clock


def _burst(lesson: str, rules: RulesName, *, direct: bool) -> tuple[float | None, Sequence[int]]:
    """After how long the engine was full, and looks at what stood in its queue from then on, until all have begun."""
    staged, far, clock = _stage(rules, direct=direct)
    source, taught = Random(f"{lesson}/{rules}"), LESSONS[lesson]
    arrivals: list[Arrival] = []
    if taught is not None:
        arrivals = [arrival_of(0.0, "one", taught, rules, source) for _ in range(LESSON_REQUESTS)]
    arrivals += [arrival_of(BURST_AT_SECONDS, "one", LENGTHS, rules, source) for _ in range(BURST)]
    prompt, output = LENGTHS
    sample = Generation(-1, prompt, output, wanted_tokens=output)
    staged.agenda.at(BURST_AT_SECONDS - 1, lambda: staged.watch_for_full(sample))
    course = simulate(arrivals, far.batch, staged, clock)
    full_at = staged.first_full_at
    if full_at is None:
        return None, []
    last_began = max(fate.started_at or 0.0 for fate in course.fates)
    return full_at - BURST_AT_SECONDS, [n for at, n in course.engine_waiting if full_at < at < last_began]


def burst_figure(lesson: str, rules: RulesName) -> BurstFigure:
    """Both ways, compared."""
    direct_seconds, _ = _burst(lesson, rules, direct=True)
    full_seconds, looks = _burst(lesson, rules, direct=False)
    standing = int(percentile(sorted(looks), 0.95)) if looks else 0
    return BurstFigure(lesson, rules, direct_seconds, full_seconds, standing)


def light_figure(rules: RulesName) -> LightFigure:
    """Poisson arrivals of three tenths of what the engine can do."""
    staged, far, clock = _stage(rules, direct=False)
    source, rate = Random(rules), LIGHT_PART * requests_per_second(rules, None, LENGTHS)
    at, arrivals = 0.0, []
    while (at := at + source.expovariate(rate)) < LIGHT_SECONDS:
        arrivals.append(arrival_of(at, "one", LENGTHS, rules, source))
    simulate(arrivals, far.batch, staged, clock)
    waited = [
        far.sent_at[generation] - arrivals[generation.number].seconds
        for generation, room in staged.found_room.items()
        if room
    ]
    return LightFigure(rules, len(arrivals), len(waited), percentile(sorted(waited), 0.99))


def burst_figures(pool: Executor) -> list[BurstFigure]:
    """All bursts at all engines."""
    return list(pool.map(burst_figure, *zip(*product(LESSONS, RULES), strict=True)))


def light_figures(pool: Executor) -> list[LightFigure]:
    """Light load at all engines."""
    return list(pool.map(light_figure, RULES))


def burst_table(pool: Executor) -> str:
    """The figures as they stand in the page: bursts, then light load."""
    light = light_figures(pool)
    lines = [
        "| the product has learned from | engine's rules | full directly after | behind the product | times as long "
        "| standing then, p95 | kept |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for it in burst_figures(pool):
        direct, behind = it.direct_seconds, it.full_seconds
        times = f"{behind / direct:.2f}" if direct and behind else ""
        cells = (it.lesson, f"`{it.rules}`", _seconds(direct), _seconds(behind), times, str(it.standing))
        lines.append(line((*cells, "yes" if it.kept else "no")))
    lines += ["", "| engine's rules | requests | found room | time in the queue, p99 |", "| --- | ---: | ---: | ---: |"]
    lines += [
        f"| `{it.rules}` | {it.requests:,} | {it.found_room:,} | {it.queue_seconds * 1000:.2f} ms |" for it in light
    ]
    return "\n".join(lines)


def _seconds(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.2f} s"
