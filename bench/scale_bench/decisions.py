"""The scheduler core alone: what a decision and a token cost among so many tenants.

A decision is `enqueue` of one request and `dispatch` of another, which always fits; requests are made before the clock
runs and finished after it has stopped. Garbage is collected as in `fairqueue serve`: what is there at the start is
frozen, and the collector is on.
"""

import gc
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fairqueue_proxy.scheduler import Node, Request, Scheduler
from scale_bench.spread import Spread, spread_of

__all__ = ["CoreCosts", "Effort", "measure_core"]

SEED = 7
BACKLOG = 2
LONGEST_TOKENS = 1_000_000


@dataclass(frozen=True, slots=True)
class Effort:
    """Each figure is of so many repetitions, each of so many decisions or tokens."""

    repetitions: int = 200
    steps: int = 1_000


@dataclass(frozen=True, slots=True)
class CoreCosts:
    """In microseconds. `backlogged`: every tenant has requests that wait. `passing`: half of the tenants have one, and
    each decision is for one tenant that comes and one that leaves. `token`: one more output token, counted exactly."""

    tenants: int
    backlogged: Spread
    passing: Spread
    token: Spread


def measure_core(tenants: int, effort: Effort) -> CoreCosts:
    """Takes some seconds, and with 100,000 tenants some more."""
    with _frozen():
        backlogged = spread_of(list(_backlogged(_Crowd(tenants), effort)))
    with _frozen():
        passing = spread_of(list(_passing(_Crowd(tenants), effort)))
    with _frozen():
        token = spread_of(list(_tokens(_Crowd(tenants), effort)))
    return CoreCosts(tenants, backlogged, passing, token)


class _Crowd:
    """A scheduler with so many tenants of equal weight, and requests of many sizes."""

    def __init__(self, tenants: int) -> None:
        self.core = Scheduler(clock=time.monotonic)
        self.leaves = [self.core.add_node(f"tenant-{number}") for number in range(tenants)]
        self._random = random.Random(SEED)

    def request(self, leaf: Node, longest: int = 256) -> Request:
        return Request(leaf, self._random.randint(16, 1024), longest, prompt_exact=True)

    def end(self, requests: list[Request]) -> None:
        for request in requests:
            self.core.output(request, self._random.randint(1, 256), exact=True)
            self.core.finish(request)


@contextmanager
def _frozen() -> Iterator[None]:
    """What is measured in here leaves nothing behind for what is measured next."""
    yield
    gc.unfreeze()
    gc.collect()


def _freeze() -> None:
    gc.collect()
    gc.freeze()


def _fits(_request: Request) -> bool:
    return True


def _backlogged(crowd: _Crowd, effort: Effort) -> Iterator[float]:
    """The tenant whose turn it was sends its next request, so that all always have as many waiting."""
    core = crowd.core
    for leaf in crowd.leaves:
        for _ in range(BACKLOG):
            core.enqueue(crowd.request(leaf))
    _freeze()
    leaf = crowd.leaves[0]
    for _ in range(effort.repetitions):
        requests = [crowd.request(leaf) for _ in range(effort.steps)]
        started = []
        begun = time.perf_counter()
        for request in requests:
            request.leaf = leaf
            core.enqueue(request)
            next_one = core.dispatch(_fits)
            assert next_one is not None
            leaf = next_one.leaf
            started.append(next_one)
        yield _microseconds(begun, effort)
        crowd.end(started)


def _passing(crowd: _Crowd, effort: Effort) -> Iterator[float]:
    """Who has been away longest comes with one request, and whose turn it is leaves with its only one."""
    core, half = crowd.core, len(crowd.leaves) // 2
    for leaf in crowd.leaves[:half]:
        core.enqueue(crowd.request(leaf))
    away = deque(crowd.leaves[half:])
    _freeze()
    for _ in range(effort.repetitions):
        requests = [crowd.request(away[0]) for _ in range(effort.steps)]
        started = []
        begun = time.perf_counter()
        for request in requests:
            request.leaf = away.popleft()
            core.enqueue(request)
            next_one = core.dispatch(_fits)
            assert next_one is not None
            away.append(next_one.leaf)
            started.append(next_one)
        yield _microseconds(begun, effort)
        crowd.end(started)


def _tokens(crowd: _Crowd, effort: Effort) -> Iterator[float]:
    """Requests of many tenants are in flight; each in turn has made one more token, and then another."""
    core = crowd.core
    for leaf in crowd.leaves:
        core.enqueue(crowd.request(leaf, LONGEST_TOKENS))
    running = [request for leaf in crowd.leaves[: effort.steps] if (request := leaf.head) is not None]
    for request in running:
        core.start_out_of_turn(request)
        core.output(request, 1, exact=True)
    _freeze()
    made = 1
    rounds = -(-effort.steps // len(running))
    charge: Callable[..., None] = core.output
    for _ in range(effort.repetitions):
        begun = time.perf_counter()
        for _ in range(rounds):
            made += 1
            for request in running:
                charge(request, made, exact=True)
        yield (time.perf_counter() - begun) * 1e6 / (rounds * len(running))


def _microseconds(begun: float, effort: Effort) -> float:
    return (time.perf_counter() - begun) * 1e6 / effort.steps
