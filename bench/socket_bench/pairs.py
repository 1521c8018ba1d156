"""A cell of pairs: an engine and a proxy that live on, measured in turn, until the ratio is known well enough."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from socket_bench.cells import Throughput
from socket_bench.children import RunningEngine, RunningProxy, running_engine, running_proxy
from socket_bench.halves import Half, Timing, run_half
from socket_bench.observers import Observer, observing
from socket_bench.policy import write_policy
from socket_bench.ratios import Ratio, median_ratio, more_pairs_help, order_of, percentile

__all__ = ["Pair", "PairsPlan", "PairsSummary", "run_pairs", "summary_of_pairs"]

LEARNING_ENGINE_SECONDS = 30.0
MOST_FITTING = 2
MOST_IDLE = 0.01
MOST_BEHIND = 0.02


@dataclass(frozen=True, slots=True)
class PairsPlan:
    """How many pairs at least and at most, and how long their halves are."""

    pairs: int
    most_pairs: int
    timing: Timing


@dataclass(frozen=True, slots=True)
class Pair:
    """Both halves, and which was first."""

    first: str
    direct: Half
    proxied: Half

    @property
    def ratio(self) -> float:
        return self.proxied.tokens_per_second / self.direct.tokens_per_second if self.direct.tokens_per_second else 0.0

    @property
    def troubles(self) -> list[str]:
        """What makes the pair doubtful."""
        found = []
        for name, half in (("direct", self.direct), ("proxied", self.proxied)):
            if half.machine.trouble:
                found.append(f"{name}: {half.machine.trouble}")
            if half.behind > MOST_BEHIND:
                found.append(f"{name}: the engine was {half.behind:.1%} too slow, it lacked CPU")
            found += [f"{name}: {count} times {what}" for what, count in half.troubles.items()]
        return found


@dataclass(frozen=True, slots=True)
class PairsSummary:
    """The cell's figures. `waiting_p95` is of all in the engine's queue, `fitting_p95` of those who would have fitted;
    both, and `idle_share`, through the proxy."""

    direct: float
    proxied: float
    ratio: Ratio
    waiting_p95: float
    fitting_p95: float
    idle_share: float
    doubtful_pairs: int
    met: bool


async def run_pairs(
    cell: Throughput, plan: PairsPlan, folder: Path, on_pair: Callable[[int, Pair], None]
) -> list[Pair]:
    """Measures the cell; `on_pair` is told of each pair."""
    policy = write_policy(folder, cell.engine.kind)
    timing = replace(plan.timing, seconds=max(plan.timing.seconds, cell.least_seconds))
    pairs: list[Pair] = []
    async with (
        running_engine(cell.engine, folder) as engine,
        observing(cell.engine, engine) as observer,
        running_proxy(policy, engine.port, folder) as proxy,
    ):
        # What the proxy has to learn of an engine it learns in so much of the engine's time.
        learning = Timing(LEARNING_ENGINE_SECONDS / cell.engine.speed, 1.0)
        await run_half(cell, f"{cell.name}/learning", learning, observer, engine, proxy)
        while more_pairs_help([pair.ratio for pair in pairs], plan.pairs, plan.most_pairs):
            pairs.append(await _run_pair(cell, len(pairs), timing, observer, engine, proxy))
            on_pair(len(pairs), pairs[-1])
    return pairs


async def _run_pair(
    cell: Throughput, number: int, timing: Timing, observer: Observer, engine: RunningEngine, proxy: RunningProxy
) -> Pair:
    halves = {}
    order = order_of(number)
    for name in order:
        through = proxy if name == "proxied" else None
        halves[name] = await run_half(cell, f"{cell.name}/{number}", timing, observer, engine, through)
    return Pair(order[0], halves["direct"], halves["proxied"])


def summary_of_pairs(pairs: Sequence[Pair]) -> PairsSummary:
    """Of at least one pair."""
    ratio = median_ratio([pair.ratio for pair in pairs])
    proxied = [pair.proxied for pair in pairs]
    fitting = _p95([half.fitting for half in proxied])
    idle = sum(half.idle_share for half in proxied) / len(proxied)
    return PairsSummary(
        direct=percentile([pair.direct.tokens_per_second for pair in pairs], 0.5),
        proxied=percentile([half.tokens_per_second for half in proxied], 0.5),
        ratio=ratio,
        waiting_p95=_p95([half.waiting for half in proxied]),
        fitting_p95=fitting,
        idle_share=idle,
        doubtful_pairs=sum(bool(pair.troubles) for pair in pairs),
        met=ratio.met and fitting <= MOST_FITTING and idle <= MOST_IDLE,
    )


def _p95(counts: Sequence[dict[int, int]]) -> float:
    together: Counter[int] = Counter()
    for each in counts:
        together.update(each)
    return percentile(list(together.elements()), 0.95)
