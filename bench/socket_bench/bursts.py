"""Many requests at once to an idle engine: how soon it is full, and what waits in it afterwards."""

import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from socket_bench.asking import Asking
from socket_bench.cells import Burst
from socket_bench.children import RunningEngine, RunningProxy, running_engine, running_proxy
from socket_bench.clients import Clients
from socket_bench.observers import StepLooks, until_empty
from socket_bench.policy import key_of, write_policy
from socket_bench.ratios import order_of, percentile
from socket_bench.step_view import StepView

__all__ = ["BurstSummary", "Filled", "Round", "run_bursts", "summary_of_bursts"]

MOST_TIMES_LONGER = 1.2
MOST_FITTING = 2


@dataclass(frozen=True, slots=True)
class Filled:
    """One burst: until the engine was full (None: it never was), and the counts of who waited in it from then on, each
    taken right after a step with newcomers, until the last request had come to the engine."""

    full_after_seconds: float | None
    waiting: list[int]
    fitting: list[int]
    troubles: dict[str, int]


@dataclass(frozen=True, slots=True)
class Round:
    """The same burst directly and through a proxy."""

    direct: Filled
    proxied: Filled

    @property
    def times(self) -> float | None:
        """How many times longer the engine took to be full."""
        direct, proxied = self.direct.full_after_seconds, self.proxied.full_after_seconds
        return None if direct is None or proxied is None or direct <= 0 else proxied / direct


@dataclass(frozen=True, slots=True)
class BurstSummary:
    """`times` is the median of all rounds, None if one was never full."""

    direct_seconds: float | None
    proxied_seconds: float | None
    times: float | None
    waiting_p95: float
    fitting_p95: float
    met: bool


async def run_bursts(cell: Burst, rounds: int, folder: Path, on_round: Callable[[int, Round], None]) -> list[Round]:
    """Each burst has an engine without requests."""
    policy = write_policy(folder, cell.engine.kind)
    done: list[Round] = []
    proxy: RunningProxy | None = None
    async with running_engine(cell.engine, folder) as engine, AsyncExitStack() as proxies:
        looks = StepLooks(StepView(engine.steps, cell.engine.speed))
        while len(done) < rounds:
            found = {}
            for name in order_of(len(done)):
                seed = f"{cell.name}/{len(done)}"
                if name == "direct":
                    found[name] = await _burst(cell, seed, looks, engine, engine.port)
                    continue
                if proxy is None or cell.fresh:
                    await proxies.aclose()
                    proxy = await proxies.enter_async_context(running_proxy(policy, engine.port, folder))
                found[name] = await _burst(cell, seed, looks, engine, proxy.port)
            done.append(Round(**found))
            on_round(len(done), done[-1])
    return done


async def _burst(cell: Burst, seed: str, looks: StepLooks, engine: RunningEngine, port: int) -> Filled:
    asking = Asking(cell.engine.kind, cell.requests, seed)
    requests: list[bytes | None] = [asking.next(key_of(client)) for client in range(cell.count)]

    def next_request(client: int) -> bytes | None:
        request, requests[client] = requests[client], None
        return request

    clients = Clients(port, cell.count, next_request)
    try:
        await clients.connect()
        start = time.monotonic()
        clients.start()
        await clients.done()
    finally:
        clients.stop()
    await until_empty(looks, engine)
    view = looks.view
    full, last = view.first_full(start), view.last_queued(start)
    after = [] if full is None or last is None else view.waiting_between(full, last)
    view.forget()
    return Filled(
        full_after_seconds=None if full is None else full - start,
        waiting=[step.waiting for step in after],
        fitting=[step.waiting_that_fit for step in after],
        troubles=dict(clients.troubles),
    )


def summary_of_bursts(rounds: Sequence[Round]) -> BurstSummary:
    """Of at least one round."""
    times = _median([each.times for each in rounds])
    fitting = percentile([count for each in rounds for count in each.proxied.fitting], 0.95)
    return BurstSummary(
        direct_seconds=_median([each.direct.full_after_seconds for each in rounds]),
        proxied_seconds=_median([each.proxied.full_after_seconds for each in rounds]),
        times=times,
        waiting_p95=percentile([count for each in rounds for count in each.proxied.waiting], 0.95),
        fitting_p95=fitting,
        met=times is not None and times <= MOST_TIMES_LONGER and fitting <= MOST_FITTING,
    )


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known and len(known) == len(values) else None
