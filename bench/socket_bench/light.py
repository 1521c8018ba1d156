"""Little load: how long requests stand in the proxy's own queue when there is room for all of them."""

import asyncio
import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from socket_bench.asking import Asking
from socket_bench.cells import Light
from socket_bench.children import running_engine, running_proxy
from socket_bench.clients import Clients
from socket_bench.machine import Machine, Watch
from socket_bench.policy import key_of, write_policy
from socket_bench.ratios import percentile

__all__ = ["LightSummary", "run_light", "summary_of_light"]

MOST_SECONDS = 0.001
# More than are ever in flight at once: a request never waits for a connection.
CONNECTIONS = 200
# Of the log: what is rounded to a tenth of a millisecond may be that much more.
ROUNDED_SECONDS = 0.00005


@dataclass(frozen=True, slots=True)
class LightRun:
    """Times in the proxy's queue, and the requests that were not served."""

    queue_seconds: list[float]
    troubles: dict[str, int]
    machine: Machine


@dataclass(frozen=True, slots=True)
class LightSummary:
    """Of all requests of the run, by the proxy's own log."""

    requests: int
    p50_seconds: float
    p99_seconds: float
    most_seconds: float
    met: bool


async def run_light(cell: Light, folder: Path) -> LightRun:
    """Sends the requests and reads the proxy's log."""
    policy = write_policy(folder, cell.engine.kind)
    async with (
        running_engine(cell.engine, folder) as engine,
        running_proxy(policy, engine.port, folder) as proxy,
    ):
        watch = Watch({"engine": engine.child.pid, "proxy": proxy.child.pid})
        watch.start()
        troubles = await _send(cell, proxy.port)
        machine = watch.stop()
        proxy.child.check()
    return LightRun(queue_seconds_in(proxy.child.log), troubles, machine)


async def _send(cell: Light, port: int) -> dict[str, int]:
    asking, random = Asking(cell.engine.kind, cell.requests, cell.name), Random(cell.name)
    free: list[int] = []
    sent: set[int] = set()
    left = cell.count
    over = asyncio.Event()

    def next_request(client: int) -> bytes | None:
        nonlocal left
        # Asked again after its reply: from then on the connection is free for another.
        if client in sent:
            sent.discard(client)
            free.append(client)
            left -= 1
            if not left:
                over.set()
            return None
        sent.add(client)
        return asking.next(key_of(client))

    clients = Clients(port, CONNECTIONS, next_request)
    try:
        await clients.connect()
        free.extend(range(CONNECTIONS))
        due = time.monotonic()
        for _ in range(cell.count):
            due += random.expovariate(cell.per_second)
            await asyncio.sleep(max(due - time.monotonic(), 0))
            clients.start_one(free.pop(0))
        await over.wait()
    finally:
        clients.stop()
    return dict(clients.troubles)


def queue_seconds_in(log: Path) -> list[float]:
    """Of each request that was served, by the proxy's log."""
    found = []
    for line in log.read_text(errors="replace").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            record = json.loads(line)
            if isinstance(record, dict) and record.get("outcome") == "completed":
                found.append(float(record["queue_seconds"]))
    return found


def summary_of_light(queue_seconds: Sequence[float]) -> LightSummary:
    """Of at least one request."""
    p99 = percentile(queue_seconds, 0.99)
    return LightSummary(
        requests=len(queue_seconds),
        p50_seconds=percentile(queue_seconds, 0.5),
        p99_seconds=p99,
        most_seconds=max(queue_seconds, default=0.0),
        met=bool(queue_seconds) and p99 + ROUNDED_SECONDS < MOST_SECONDS,
    )
