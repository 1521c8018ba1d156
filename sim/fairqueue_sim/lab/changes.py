"""What becomes of backpressure when something changes from one moment to the next, in simulations.

Each change comes in the middle of an overload, once with the product by its defaults in front of the engine, and once
with everything sent to the engine directly. What the engine does without anybody in front of it, when the change is
behind it, is the new best; the product is to be back at it soon, and no request is to be lost.

The lab's engine has no metrics that anybody reads: but for the change that takes them away, the product is told nothing
except what the engine is (see `LabEngine.report`).
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from random import Random
from statistics import mean

import numpy as np

from fairqueue_proxy.outcome import Outcome
from fairqueue_sim.lab.engines import LabEngine, RulesName
from fairqueue_sim.lab.fate import Course, Fate
from fairqueue_sim.lab.fronts import Front, Inside
from fairqueue_sim.lab.marks import line
from fairqueue_sim.lab.metrics import Array
from fairqueue_sim.lab.orders import make_order
from fairqueue_sim.lab.outside import Outside
from fairqueue_sim.lab.policies import open_policy
from fairqueue_sim.lab.result import percentile
from fairqueue_sim.lab.simulation import Clock, simulate
from fairqueue_sim.lab.staged import BYPASS, FarEngine, Staged
from fairqueue_sim.lab.trace import Arrival
from fairqueue_sim.profiles import load_profile

__all__ = [
    "CHANGES",
    "KV_TOKENS",
    "RULES",
    "TRANSIT_SECONDS",
    "Change",
    "ChangeFigure",
    "Lengths",
    "Run",
    "arrival_of",
    "arrivals_of",
    "back_seconds_of",
    "change_figure",
    "change_figures",
    "changes_table",
    "lab_engine",
    "lost_of",
    "requests_per_second",
    "run_change",
]

RULES: tuple[RulesName, ...] = ("tgi", "vllm", "sglang")
PROFILE, KV_TOKENS = "a10g-llama2-7b", 10_000
TENANTS = {"one": 1.0, "two": 2.0, "light": 0.05}
"""What each asks for, in parts of what the engine can do; and at first so many seconds of that at once."""
HEAD_START_SECONDS = 10.0
BEFORE_SECONDS, AFTER_SECONDS, STEADY_SECONDS = 60.0, 180.0, 90.0
END_SECONDS = BEFORE_SECONDS + AFTER_SECONDS
TRANSIT_SECONDS = 0.002
"""From the proxy to the engine, and back."""
DOWN_SECONDS, OUTAGE_SECONDS, COUNT_SECONDS = 5.0, 60.0, 1.0
BYPASS_PART = 0.5
SPREAD = 0.5
CALIBRATION_REQUESTS, CALIBRATION_SECONDS = 1000, 60.0
LEAST_PART, LONGEST_SECONDS, SHORTEST_WINDOW_SECONDS = 0.95, 20.0, 20.0

Lengths = tuple[int, int]
Slots = int | None
SHORT, MIDDLE, LONG = (64, 64), (256, 256), (512, 512)


@dataclass(frozen=True, slots=True)
class Change:
    """From before to after at one instant. `down_seconds`: the engine dies and is back after so long; the change is
    then when it is back. `counted`: the product is told what waits in the engine, but for a while after the change, and
    half of the replies are plain. `bypass`: before, and after, somebody goes past the product. The fewer requests there
    are, the more `seeds` it takes until their chance lengths make no difference."""

    name: str
    lengths: tuple[Lengths, Lengths] = (MIDDLE, MIDDLE)
    slots: tuple[Slots, Slots] = (None, None)
    bypass: tuple[bool, bool] = (False, False)
    down_seconds: float = 0.0
    counted: bool = False
    seeds: int = 8


CHANGES = (
    Change("lengths x 8", lengths=(SHORT, LONG), seeds=4),
    Change("lengths / 8", lengths=(LONG, SHORT), seeds=2),
    Change("slots halved", lengths=(SHORT, SHORT), slots=(32, 16), seeds=1),
    Change("slots doubled", lengths=(SHORT, SHORT), slots=(16, 32), seeds=1),
    Change("engine restarted", down_seconds=DOWN_SECONDS),
    Change("bypass traffic begins", bypass=(False, True)),
    Change("bypass traffic ends", bypass=(True, False)),
    Change("no metrics for 60 s", counted=True),
)


@dataclass(frozen=True, slots=True)
class ChangeFigure:
    """`best` is what the engine does directly in the new state, in tokens per second, and `steady` what it does behind
    the product. `back_seconds` None: not back by the end; `direct_back_seconds` is when the engine without the product
    is, by the same measure. `standing` is how many wait in the engine that would have fitted, after the change and in
    the new steady state (p95)."""

    change: str
    rules: RulesName
    best: float
    steady: float
    back_seconds: float | None
    direct_back_seconds: float | None
    allowed_seconds: float
    standing: int
    requests: int
    errors: int
    lost: int

    @property
    def kept(self) -> bool:
        """Back in time, and nothing lost."""
        return self.back_seconds is not None and self.back_seconds <= self.allowed_seconds and not self.lost


@cache
def requests_per_second(rules: RulesName, slots: Slots, lengths: Lengths) -> float:
    """What the engine can do of these."""
    engine, clock = lab_engine(rules, slots), Clock()
    batch = engine.batch()
    source = Random(0)
    arrivals = [arrival_of(0.0, "one", lengths, rules, source) for _ in range(CALIBRATION_REQUESTS)]
    order = make_order("fcfs", {}, kv_tokens=KV_TOKENS, seed=0)
    course = simulate(arrivals, batch, Inside(order, batch, 1), clock, until=CALIBRATION_SECONDS)
    return course.warm_tokens / (CALIBRATION_SECONDS / 2) / sum(lengths)


def lab_engine(rules: RulesName, slots: Slots) -> LabEngine:
    """The machine on which all of this happens."""
    return LabEngine(load_profile(PROFILE), rules, KV_TOKENS, slots)


def arrival_of(at: float, tenant: str, lengths: Lengths, rules: RulesName, source: Random) -> Arrival:
    """A request of about these lengths, prompt and output, which is all that an engine that sets memory aside is asked
    for."""
    # Of equal ones a whole batch would end at once, again and again.
    prompt, output = (round(source.uniform(1 - SPREAD, 1 + SPREAD) * tokens) for tokens in lengths)
    return Arrival(at, tenant, prompt, output, max_tokens=output if rules == "tgi" else None)


def _arrivals(change: Change, rules: RulesName, seed: int, after: int) -> Iterator[Arrival]:
    """All that comes before the change (0), or after it (1)."""
    lengths, slots = change.lengths[after], change.slots[after]
    start, end = (BEFORE_SECONDS, BEFORE_SECONDS + AFTER_SECONDS) if after else (0.0, BEFORE_SECONDS)
    capacity = requests_per_second(rules, slots, lengths)
    anew = not after or change.lengths[0] != change.lengths[1]
    parts = TENANTS | ({BYPASS: BYPASS_PART} if change.bypass[after] else {})
    for tenant, part in parts.items():
        source, rate = Random(f"{change.name}/{rules}/{seed}/{after}/{tenant}"), part * capacity
        if anew and part >= 1:
            for _ in range(int(rate * HEAD_START_SECONDS)):
                yield arrival_of(start + 0.001, tenant, lengths, rules, source)
        at = start
        while (at := at + source.expovariate(rate)) < end:
            yield arrival_of(at, tenant, lengths, rules, source)


def arrivals_of(change: Change, rules: RulesName, seed: int) -> list[Arrival]:
    """All of a run, in order."""
    both = [*_arrivals(change, rules, seed, 0), *_arrivals(change, rules, seed, 1)]
    return sorted(both, key=lambda arrival: arrival.seconds)


@dataclass(slots=True)
class Run:
    """One run: what became of all, and the front that has seen it."""

    course: Course
    staged: Staged

    def rate(self, start: float, seconds: float) -> float:
        """Tokens per second."""
        return float(self.staged.tokens_between([start], seconds)[0]) / seconds


def run_change(change: Change, rules: RulesName, seed: int, *, direct: bool) -> Run:
    """The whole run, up to its end or the last instant that is judged."""
    clock, arrivals = Clock(), arrivals_of(change, rules, seed)
    engine = lab_engine(rules, change.slots[0])
    order = make_order("fcfs", {}, kv_tokens=KV_TOKENS, seed=0)
    batch = engine.batch(order if direct else None)
    far = FarEngine(batch, clock, TRANSIT_SECONDS)
    front: Front
    if direct:
        front = Inside(order, batch, 1)
    else:
        document = open_policy(engine.kind, list(TENANTS), {})
        plain = _every_other() if change.counted else lambda _: False
        front = Outside(document, engine.report(), far, clock, 0, plain)
        # Looking at the counters takes most of the time.
        front.gap = None
    staged = Staged(front, far, clock)
    _plan(change, rules, staged, far)
    return Run(simulate(arrivals, batch, staged, clock, until=END_SECONDS), staged)


def _every_other() -> Callable[[Arrival], bool]:
    source = Random("plain")
    return lambda _: source.random() < 0.5


def _plan(change: Change, rules: RulesName, staged: Staged, far: FarEngine) -> None:
    agenda, front, at = staged.agenda, staged.product, BEFORE_SECONDS
    if change.down_seconds:
        agenda.at(at - change.down_seconds, staged.engine_dies)
        agenda.at(at, staged.engine_is_back)
    if change.slots[0] != change.slots[1]:
        agenda.at(at, lambda: _set_slots(change, rules, staged, far))
    if change.lengths[0] != change.lengths[1]:
        # Else all that has come before would be served first, for minutes.
        agenda.at(at, staged.everybody_leaves)
    if front is not None and change.counted:
        for instant in np.arange(COUNT_SECONDS, at + AFTER_SECONDS, COUNT_SECONDS):
            if not at <= instant < at + OUTAGE_SECONDS:
                agenda.at(float(instant), lambda: front.engine_counts(far.batch.waiting))


def _set_slots(change: Change, rules: RulesName, staged: Staged, far: FarEngine) -> None:
    before, after = change.slots
    far.batch.limits = replace(far.batch.limits, slots=after)
    if staged.product is not None and before is not None and after is not None and after > before:
        # Beyond what an engine has told of itself nothing is tried; of less it need not tell.
        staged.product.engine_says(lab_engine(rules, after).report())


def change_figure(change: Change, rules: RulesName) -> ChangeFigure:
    """Runs several seeds both ways, and compares their means."""
    direct, behind = (
        [run_change(change, rules, seed, direct=way) for seed in range(change.seeds)] for way in (True, False)
    )
    best, steady = (
        mean(run.rate(END_SECONDS - STEADY_SECONDS, STEADY_SECONDS) for run in runs) for runs in (direct, behind)
    )
    fates = [fate for run in direct for fate in run.course.fates]
    before, after = (_request_seconds(fates, since) for since in (0.0, BEFORE_SECONDS))
    # One request says little of how fast things go: two durations say enough.
    window = max(SHORTEST_WINDOW_SECONDS, 2 * after)
    least = min(LEAST_PART * best, float(_rates(direct, END_SECONDS - STEADY_SECONDS, window).min()))
    arrived = [(run, fate) for run in behind for fate in run.course.fates if fate.arrival.seconds <= END_SECONDS]
    return ChangeFigure(
        change=change.name,
        rules=rules,
        best=best,
        steady=steady,
        back_seconds=back_seconds_of(behind, least, window),
        direct_back_seconds=back_seconds_of(direct, least, window),
        allowed_seconds=max(LONGEST_SECONDS, 2 * before, 2 * after),
        standing=_standing(behind),
        requests=len(arrived),
        errors=sum(fate.refused == Outcome.ENGINE_ERROR.value for _, fate in arrived),
        lost=sum(len(lost_of(run)) for run in behind),
    )


def _request_seconds(fates: Sequence[Fate], since: float) -> float:
    """How long those were in the batch that began in the minute from then on."""
    until = since + BEFORE_SECONDS
    spans = ((it.started_at, it.ended_at) for it in fates)
    lasted = [
        ended - began for began, ended in spans if ended is not None and began is not None and since < began < until
    ]
    return mean(lasted)


def _rates(runs: Sequence[Run], since: float, window: float) -> Array:
    """Tokens per second in windows that begin a second apart; the mean of several runs."""
    starts = np.arange(since, END_SECONDS - window)
    tokens: Array = np.mean([run.staged.tokens_between(starts, window) for run in runs], axis=0)
    return tokens / window


def back_seconds_of(runs: Sequence[Run], least: float, window: float) -> float | None:
    """After how long all windows that begin later have that rate; None: the last one has not."""
    rates = _rates(runs, BEFORE_SECONDS, window)
    below = np.flatnonzero(rates < least)
    if not len(below):
        return 0.0
    return float(below[-1] + 1) if below[-1] + 1 < len(rates) else None


def _standing(runs: Sequence[Run]) -> int:
    looks = [count for run in runs for at, count in run.course.engine_waiting if at > END_SECONDS - STEADY_SECONDS]
    return int(percentile(sorted(looks), 0.95)) if looks else 0


def lost_of(run: Run) -> list[Fate]:
    """Those that have neither ended nor been refused, and that nobody has any more."""
    has = run.staged.product.unended if run.staged.product is not None else set()
    return [
        fate
        for fate in run.course.fates
        if fate.arrival.seconds <= END_SECONDS
        and fate.ended_at is None
        and fate.refused is None
        and fate not in has
        and fate.arrival.tenant != BYPASS
    ]


def _figure(number: int, rules: RulesName) -> ChangeFigure:
    return change_figure(CHANGES[number], rules)


def change_figures(pool: Executor) -> list[ChangeFigure]:
    """All changes, for all engines."""
    pairs = list(product(range(len(CHANGES)), RULES))
    return list(pool.map(_figure, *zip(*pairs, strict=True)))


def changes_table(pool: Executor) -> str:
    """The figures as they stand in the page."""
    lines = [
        "| change | engine's rules | new best, tokens/s | behind the product | back after | directly | allowed "
        "| standing, p95 | requests | broken | lost | kept |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for it in change_figures(pool):
        cells = (
            it.change,
            f"`{it.rules}`",
            f"{it.best:.0f}",
            f"{it.steady:.0f} ({100 * (it.steady / it.best - 1):+.1f} %)",
            _seconds(it.back_seconds),
            _seconds(it.direct_back_seconds),
            _seconds(it.allowed_seconds),
            str(it.standing),
            f"{it.requests:,}",
            str(it.errors),
            str(it.lost),
            "yes" if it.kept else "no",
        )
        lines.append(line(cells))
    return "\n".join(lines)


def _seconds(seconds: float | None) -> str:
    return "not" if seconds is None else f"{seconds:.0f} s"
