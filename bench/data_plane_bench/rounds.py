"""Measures all proxies in turn, round by round, so that a slow minute of the machine does not fall on one of them."""

import datetime
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from data_plane_bench.children import Cores
from data_plane_bench.compiled import Tools
from data_plane_bench.measures import MEASURES
from data_plane_bench.noise import least_noisy
from data_plane_bench.plan import MeasureName, Plan, for_slow
from data_plane_bench.proxies import BASE, FAIRQUEUE, FAIRQUEUE_VLLM, PROXIES, Proxy
from data_plane_bench.results import Results, Round
from data_plane_bench.runs import Run
from data_plane_bench.stack import running_stack
from data_plane_bench.tables import run_line
from socket_bench.children import ChildError

__all__ = ["Bench", "applies", "in_turn", "run_rounds"]

# Takes minutes, and does not depend on what else the machine does.
ONCE: tuple[MeasureName, ...] = ("flat",)
# What a proxy that carries a fiftieth of the others' load can be asked for.
FOR_SLOW: tuple[MeasureName, ...] = ("max", "latency", "short", "memory", "hangup")


def applies(measure: MeasureName, proxy: Proxy) -> bool:
    """Whether it makes sense for this proxy."""
    if measure == "flat":
        return proxy.name in (FAIRQUEUE, FAIRQUEUE_VLLM)
    if proxy.name == BASE:
        return measure != "memory"
    return measure in FOR_SLOW or not proxy.is_slow


def in_turn(names: Sequence[str], number: int) -> list[str]:
    """Each round begins with another one."""
    shift = (number - 1) % len(names)
    return [*names[shift:], *names[:shift]]


@dataclass(frozen=True, slots=True)
class Bench:
    """What it is measured with, and where results and progress go."""

    plan: Plan
    tools: Tools
    cores: Cores
    results: Results
    say: Callable[[str], None]


async def run_rounds(bench: Bench, names: Sequence[str], measures: Sequence[MeasureName], rounds: int) -> None:
    """Those that are not there yet; each is kept as soon as it is whole."""
    for number in range(1, rounds + 1):
        for measure in measures:
            if measure in ONCE and number > 1:
                continue
            wanted = [name for name in in_turn(names, number) if applies(measure, PROXIES[name])]
            if bench.results.find(measure, number, bench.plan, wanted) is not None:
                bench.say(f"{measure}, round {number} of {rounds}: there already")
            elif wanted:
                bench.say(f"{measure}, round {number} of {rounds}:")
                bench.results.keep(await _run_round(bench, measure, number, wanted))


async def _run_round(bench: Bench, measure: MeasureName, number: int, names: Sequence[str]) -> Round:
    began = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    runs = {}
    for name in names:
        runs[name] = await _run(bench, measure, PROXIES[name])
        bench.say(run_line(name, measure, least_noisy(runs[name]), len(runs[name])))
    return Round(measure, number, bench.plan, began, runs)


async def _run(bench: Bench, measure: MeasureName, proxy: Proxy) -> list[Run]:
    plan = for_slow(bench.plan) if proxy.is_slow else bench.plan
    with tempfile.TemporaryDirectory(prefix="data-plane-") as folder:
        try:
            async with running_stack(proxy, bench.tools, bench.cores, Path(folder)) as stack:
                runs = await MEASURES[measure](stack, plan)
        except (ChildError, TimeoutError, ConnectionError, msgspec.DecodeError) as error:
            # The others are measured all the same.
            return [Run(invalid=f"failed: {error or type(error).__name__}")]
    if stack.scrapes.failed:
        said = f"{stack.scrapes.failed} of {stack.scrapes.failed + stack.scrapes.done} scrapes failed"
        runs = [msgspec.structs.replace(run, troubles=[*run.troubles, said]) for run in runs]
    return runs
