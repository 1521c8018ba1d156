"""One half of a pair: so many clients in a closed loop against the engine or the proxy, and what the engine made."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass

from socket_bench.asking import Asking
from socket_bench.cells import Throughput
from socket_bench.children import RunningEngine, RunningProxy
from socket_bench.clients import Clients
from socket_bench.machine import Machine, Watch
from socket_bench.observers import Observer, until_empty
from socket_bench.policy import key_of
from socket_bench.seen import Seen

__all__ = ["Half", "Timing", "run_half"]


@dataclass(frozen=True, slots=True)
class Timing:
    """Of each half: how long before it counts, and how long it counts."""

    warm_up_seconds: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Half:
    """What one half came to.

    `tokens_per_second` are output tokens: a prompt is read in one go, so that how many of them fall into a short span
    is left to chance; `all_tokens_per_second` has them, too. `waiting` and `fitting` say how often so many were seen,
    see `Seen`.
    """

    tokens_per_second: float
    all_tokens_per_second: float
    replies: int
    running_mean: float
    troubles: dict[str, int]
    waiting: dict[int, int]
    fitting: dict[int, int]
    idle_share: float
    behind: float
    machine: Machine


async def run_half(
    cell: Throughput,
    seed: str,
    timing: Timing,
    observer: Observer,
    engine: RunningEngine,
    proxy: RunningProxy | None,
) -> Half:
    """Through the proxy if there is one, else directly; leaves an empty engine."""
    asking = Asking(cell.engine.kind, cell.requests, seed)
    fresh = set(range(cell.clients))

    def next_request(client: int) -> bytes:
        begun = client in fresh
        fresh.discard(client)
        return asking.next(key_of(client), begun=begun)

    clients = Clients(engine.port if proxy is None else proxy.port, cell.clients, next_request)
    pids = {"engine": engine.child.pid} | ({} if proxy is None else {"proxy": proxy.child.pid})
    watch = Watch(pids)
    try:
        await clients.connect()
        clients.start()
        await asyncio.sleep(timing.warm_up_seconds)
        before = clients.replies, clients.events
        watch.start()
        start = time.monotonic()
        await asyncio.sleep(timing.seconds)
        end = time.monotonic()
        machine = watch.stop()
        replies, events = clients.replies - before[0], clients.events - before[1]
        engine.child.check()
        if proxy is not None:
            proxy.child.check()
        seen = await observer.seen(start, end, events)
    finally:
        clients.stop()
    await until_empty(observer, engine)
    return _half(seen, replies, clients.troubles, machine)


def _half(seen: Seen, replies: int, troubles: Counter[str], machine: Machine) -> Half:
    return Half(
        tokens_per_second=seen.output_tokens / seen.seconds,
        all_tokens_per_second=(seen.prompt_tokens + seen.output_tokens) / seen.seconds,
        replies=replies,
        running_mean=round(seen.running_mean, 2),
        troubles=dict(troubles),
        waiting=dict(sorted(Counter(seen.waiting).items())),
        fitting=dict(sorted(Counter(seen.fitting).items())),
        idle_share=seen.idle_share,
        behind=seen.behind,
        machine=machine,
    )
