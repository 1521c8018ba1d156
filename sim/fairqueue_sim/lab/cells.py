"""The matrix of engines and lengths on which backpressure is judged, with one default configuration for all of them.

Each cell is an overload: two tenants who both want more than there is, one twice as much as the other, and one that
wants little. It is run with everything in the engine's own queue (*direct*), with the product by its defaults, and with
the product held to one fixed number of requests after another. A run is cut off, so that nothing is drained.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from random import Random
from statistics import mean

import numpy as np
from msgspec import structs

from fairqueue_sim.lab.engines import LabEngine, RulesName
from fairqueue_sim.lab.fate import Course
from fairqueue_sim.lab.fronts import Inside
from fairqueue_sim.lab.metrics import Series
from fairqueue_sim.lab.orders import make_order
from fairqueue_sim.lab.outside import Outside
from fairqueue_sim.lab.policies import open_policy
from fairqueue_sim.lab.result import percentile
from fairqueue_sim.lab.simulation import WARM_UP_SECONDS, Clock, simulate
from fairqueue_sim.lab.trace import Arrival
from fairqueue_sim.profiles import load_profile

__all__ = ["CELLS", "Cell", "Figures", "Judgement", "judge", "run_direct", "run_product"]

TENANTS = {"one": 1.0, "two": 2.0, "light": 0.05}
"""What each asks for, in parts of what the engine can do."""

LENGTHS: dict[str, tuple[tuple[int, int], ...]] = {
    "64/64": ((64, 64),),
    "256/256": ((256, 256),),
    "2048/512": ((2048, 512),),
    "mixed": ((64, 64), (512, 64), (256, 256), (64, 512), (1024, 128)),
}
"""Tokens of prompt and output."""

ENGINES: tuple[RulesName, ...] = ("sglang", "vllm", "tgi")
KV_TOKENS = (2_000, 10_000, 35_000, 65_000)
SLOTS = (4, 8, 32, 256)
LARGE_KV_TOKENS = 35_000
"""From here on it is the larger machine."""

REQUESTS = 600
SHORTEST_SECONDS, LONGEST_SECONDS = 180.0, 1800.0
WINDOW_SECONDS, TICK_SECONDS = 60.0, 15.0
# Nothing takes longer: what ends after the cut has no part in the last windows.
LONGEST_REQUEST_SECONDS = 60.0
SWEEP = (0.6, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0)
"""Fixed limits that are tried, in parts of what runs at once when everything is in the engine's queue."""
JUDGED_SEEDS = (1, 2)
LEAST_TOKENS, MOST_IDLE, MOST_WAITING = 0.98, 0.01, 2
MOST_DIFFERENCE, MOST_DIFFERENCE_UNITS = 1.10, 2.0


@dataclass(frozen=True)
class Cell:
    """An engine, its memory and slots, and the lengths of requests."""

    rules: RulesName
    kv_tokens: int
    slots: int
    lengths: str

    @property
    def name(self) -> str:
        """As in the page."""
        return f"{self.rules} {self.kv_tokens} {self.slots} {self.lengths}"

    @property
    def engine(self) -> LabEngine:
        """The engine, by the step times of one of two machines."""
        profile = "a100-llama2-13b" if self.kv_tokens >= LARGE_KV_TOKENS else "a10g-llama2-7b"
        return LabEngine(load_profile(profile), self.rules, self.kv_tokens, self.slots)

    @property
    def is_one(self) -> bool:
        """Whether all lengths fit into the cache, and the slots are not more than can ever be taken."""
        lengths = LENGTHS[self.lengths]
        if any(prompt + output >= self.kv_tokens - 16 for prompt, output in lengths):
            return False
        fewer = [slots for slots in SLOTS if slots < self.slots]
        return not fewer or self.kv_tokens // min(prompt for prompt, _ in lengths) > max(fewer)

    @cached_property
    def requests_per_second(self) -> float:
        """About what the engine can do."""
        lengths, profile = LENGTHS[self.lengths], self.engine.profile
        prompt, output = mean(prompt for prompt, _ in lengths), mean(output for _, output in lengths)
        held = prompt + (output if self.rules == "tgi" else output / 2)
        batch = max(min(self.slots, int(self.kv_tokens / held)), 1)
        step = profile.step_seconds(batch, int(batch * (prompt + output / 2)), int(prompt * batch / output))
        return batch / (output * step)

    @cached_property
    def seconds(self) -> float:
        """How long it is run."""
        return min(max(REQUESTS / self.requests_per_second, SHORTEST_SECONDS), LONGEST_SECONDS)

    def arrivals(self, seed: int) -> Sequence[Arrival]:
        """What comes. Of each length there are as many in any stretch: else runs would differ by what they happened to
        serve."""
        source = Random(f"{self.name}/{seed}")
        lengths = LENGTHS[self.lengths]
        arrivals = []
        for tenant, part in TENANTS.items():
            at, rate = 0.0, part * self.requests_per_second
            deck: list[tuple[int, int]] = []
            while (at := at + source.expovariate(rate)) < self.seconds:
                deck = deck or source.sample(lengths, len(lengths))
                prompt, output = deck.pop()
                # TGI sets aside what may come: nobody would ask for a whole context each time.
                arrivals.append(Arrival(at, tenant, prompt, output, max_tokens=output if self.rules == "tgi" else None))
        return sorted(arrivals, key=lambda arrival: arrival.seconds)


CELLS = [
    cell
    for rules, kv_tokens, slots, lengths in product(ENGINES, KV_TOKENS, SLOTS, LENGTHS)
    if (cell := Cell(rules, kv_tokens, slots, lengths)).is_one
]


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one run, after the warm-up. `waiting_p95` is of looks right after a step with newcomers, at those in the
    engine's queue that would have fitted; `idle_part` the part of the time in which one more would have joined the
    batch and stayed in it, the engine's queue was empty, and somebody waited; `running` the mean batch."""

    tokens_per_second: float
    difference: float
    waiting_p95: float
    idle_part: float
    running: float


def run_direct(cell: Cell, seed: int = 0) -> Figures:
    """Everything goes to the engine as it comes."""
    engine, clock = cell.engine, Clock()
    order = make_order("fcfs", {}, kv_tokens=cell.kv_tokens, seed=seed)
    batch = engine.batch(order)
    return _figures(cell, simulate(cell.arrivals(seed), batch, Inside(order, batch, 1), clock, until=cell.seconds))


def run_product(cell: Cell, max_requests: int | None = None, seed: int = 0) -> Figures:
    """The product by its defaults, or held to a number of requests by its policy."""
    engine, clock = cell.engine, Clock()
    batch = engine.batch()
    document = open_policy(engine.kind, list(TENANTS), {})
    pressure = structs.replace(document.backpressure, max_requests=max_requests)
    front = Outside(structs.replace(document, backpressure=pressure), engine.report(), batch, clock, seed)
    return _figures(cell, simulate(cell.arrivals(seed), batch, front, clock, until=cell.seconds))


@dataclass(frozen=True, slots=True)
class Judgement:
    """A cell's figures and what they are held against.

    `best` is the fixed limit with the least service difference of those that have 98 % of the tokens/s. As the least of
    many is a lucky one, both differences are of other arrivals than those by which it was found.
    """

    cell: Cell
    direct: Figures
    product: Figures
    best: int | None
    best_difference: float
    difference: float

    @property
    def tokens_ratio(self) -> float:
        """Tokens per second, of direct."""
        return self.product.tokens_per_second / self.direct.tokens_per_second

    @property
    def misses(self) -> tuple[str, ...]:
        """What is not as it should be."""
        allowed = max(self.best_difference * MOST_DIFFERENCE, self.best_difference + MOST_DIFFERENCE_UNITS)
        found = {
            "tokens": self.tokens_ratio < LEAST_TOKENS,
            "waiting": self.product.waiting_p95 > MOST_WAITING,
            "idle": self.product.idle_part > MOST_IDLE,
            "difference": self.best is not None and self.difference > allowed,
        }
        return tuple(name for name, missed in found.items() if missed)


def judge(cell: Cell) -> Judgement:
    """Runs a cell in all ways."""
    direct = run_direct(cell)
    limits = sorted({max(round(direct.running * part), 1) for part in SWEEP})
    fixed = {limit: run_product(cell, limit) for limit in limits}
    enough = LEAST_TOKENS * direct.tokens_per_second
    good = [limit for limit, figures in fixed.items() if figures.tokens_per_second >= enough]
    best = min(good, key=lambda limit: fixed[limit].difference, default=None)
    return Judgement(
        cell,
        direct,
        run_product(cell),
        best,
        mean(run_product(cell, best, seed).difference for seed in JUDGED_SEEDS) if best is not None else 0.0,
        mean(run_product(cell, None, seed).difference for seed in JUDGED_SEEDS),
    )


def _figures(cell: Cell, course: Course) -> Figures:
    span = cell.seconds - WARM_UP_SECONDS
    waiting = sorted(count for at, count in course.engine_waiting if at >= WARM_UP_SECONDS)
    ran = [it.ended_at - it.started_at for it in course.fates if it.ended_at is not None and it.started_at is not None]
    return Figures(
        tokens_per_second=course.warm_tokens / span,
        difference=_difference(course, cell.seconds),
        waiting_p95=percentile(waiting, 0.95) if waiting else 0,
        idle_part=course.idle_seconds / span,
        running=sum(ran) / cell.seconds,
    )


def _difference(course: Course, seconds: float) -> float:
    """The paper's measure, at more moments than it has them, as there are few long requests to a minute."""
    series = Series(course.fates, list(TENANTS), {})
    differences = []
    last = seconds - LONGEST_REQUEST_SECONDS - WINDOW_SECONDS
    for start in np.arange(WARM_UP_SECONDS, last, TICK_SECONDS):
        end = start + WINDOW_SECONDS
        served, wanted = series.service(start, end) / WINDOW_SECONDS, series.demand(start, end) / WINDOW_SECONDS
        differences.append(float(np.minimum(served.max() - served, np.abs(wanted - served)).sum()))
    return float(np.mean(differences))
