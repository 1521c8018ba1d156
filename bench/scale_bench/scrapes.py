"""A scrape of `/metrics` with as many tenants as a policy may have: its size, its time, and for how long the event loop
does nothing else meanwhile.

The admin server is the proxy's own, on a loop of its own; a child process asks, over a socket. What else the loop had
to do is a callback that runs again and again: between two of its runs, something else held the loop.
"""

import asyncio
import gc
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise

from aiohttp import web
from msgspec import structs

from fairqueue_api import Document
from fairqueue_api.address import Address
from fairqueue_api.document import AnonymousSettings, LimitSettings
from fairqueue_proxy.admin import Admin
from fairqueue_proxy.exposition import Exposition
from fairqueue_proxy.outcome import Outcome
from fairqueue_proxy.proxy import Proxy
from fairqueue_proxy.scheduler import Request
from fairqueue_proxy.tenants import Tenant
from fairqueue_sim.lab.policies import open_policy
from scale_bench.spread import Spread, spread_of

__all__ = ["FULL", "Population", "ScrapeCosts", "measure_scrapes"]

SEED = 7
NO_LIMITS = LimitSettings(max_in_flight=None, max_queued=None, tokens_per_minute=None)
CLIENT = """
import sys, time, urllib.request
for line in sys.stdin:
    begun = time.perf_counter()
    with urllib.request.urlopen(sys.argv[1]) as reply:
        size = len(reply.read())
    print(size, time.perf_counter() - begun, flush=True)
"""


@dataclass(frozen=True, slots=True)
class Population:
    """`labelled` tenants are in force, the most that a policy may have. `identities` have a place of their own in the
    class `anonymous`; `gone` are tenants that are in force no more, whose figures are summed up under `other`."""

    labelled: int
    identities: int
    gone: int


FULL = Population(labelled=256, identities=10_000, gone=10_000)


@dataclass(frozen=True, slots=True)
class ScrapeCosts:
    """Seconds. `stall` is the longest time in a scrape for which the loop did nothing else, `own_stall` the same in CPU
    time of its thread, which does not see what other processes did; `quiet` is `stall` while nobody scrapes."""

    population: Population
    size_bytes: int
    scrape: Spread
    stall: Spread
    own_stall: Spread
    quiet: Spread


async def measure_scrapes(population: Population, scrapes: int) -> ScrapeCosts:
    """So many scrapes, one after the other, and as many looks at a loop that nobody asks anything."""
    proxy = _populated(population)
    gc.collect()
    gc.freeze()
    try:
        async with _serving(proxy) as port, _client(port) as ask:
            size_bytes, _ = await ask()
            watched = [await _watched(ask) for _ in range(scrapes)]
            scrape = spread_of([seconds for _, seconds, _ in watched])
            quiet = [await _watched_quiet(scrape.median) for _ in range(scrapes)]
    finally:
        gc.unfreeze()
        await proxy.stop()
    stalls = [stall for _, _, stall in watched]
    return ScrapeCosts(
        population,
        size_bytes,
        scrape,
        stall=spread_of([it.wall for it in stalls]),
        own_stall=spread_of([it.own for it in stalls]),
        quiet=spread_of([it.wall for it in quiet]),
    )


@dataclass(frozen=True, slots=True)
class _Stall:
    wall: float
    own: float


class _Spinning:
    """Runs at each turn of the loop, from `start` to `stop`."""

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._looks = [(time.perf_counter(), time.thread_time())]
        self._look()

    def stop(self) -> _Stall:
        self._next.cancel()
        pairs = list(pairwise(self._looks))
        return _Stall(
            max((after[0] - before[0] for before, after in pairs), default=0.0),
            max((after[1] - before[1] for before, after in pairs), default=0.0),
        )

    def _look(self) -> None:
        self._looks.append((time.perf_counter(), time.thread_time()))
        self._next = self._loop.call_soon(self._look)


class _Ask:
    """A scrape by another process: how many bytes it read, and in how many seconds."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def __call__(self) -> tuple[int, float]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(b"\n")
        size, seconds = (await stdout.readline()).split()
        return int(size), float(seconds)


async def _watched(ask: _Ask) -> tuple[int, float, _Stall]:
    spinning = _Spinning()
    spinning.start()
    size, seconds = await ask()
    return size, seconds, spinning.stop()


async def _watched_quiet(seconds: float) -> _Stall:
    spinning = _Spinning()
    spinning.start()
    await asyncio.sleep(seconds)
    return spinning.stop()


@asynccontextmanager
async def _serving(proxy: Proxy) -> AsyncIterator[int]:
    """The pod's admin port of a proxy that has not been started."""
    exposition = Exposition(proxy.runtime, proxy.entitlement, proxy.reloads)
    admin = Admin(proxy.runtime, exposition, proxy.reloads, listening=lambda: True)
    runner = web.AppRunner(admin.pod_app(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _client(port: int) -> AsyncIterator[_Ask]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, f"http://127.0.0.1:{port}/metrics", stdin=pipe, stdout=pipe
    )
    try:
        yield _Ask(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _populated(population: Population) -> Proxy:
    """A proxy that has seen so many, each with figures of its own."""
    chance = random.Random(SEED)
    proxy = Proxy(_document([], identities=False), Address("127.0.0.1", 1), engine_kind="TGI")
    labelled = population.labelled
    for begin in range(0, population.gone, labelled):
        names = [f"gone-{number:05}" for number in range(begin, min(begin + labelled, population.gone))]
        proxy.apply(_document(names, identities=False))
        for tenant in proxy.runtime.tenants.by_name.values():
            _fill(proxy, tenant, chance)
    proxy.apply(_document([f"tenant-{number:03}" for number in range(labelled)], identities=True))
    for tenant in proxy.runtime.tenants.by_name.values():
        _fill(proxy, tenant, chance)
    scheduler, anonymous = proxy.dispatcher.scheduler, proxy.runtime.tenants.by_name["anonymous"]
    for number in range(population.identities):
        scheduler.enqueue(Request(anonymous.leaf(scheduler, f"identity-{number}"), 100, 100))
    return proxy


def _document(names: list[str], *, identities: bool) -> Document:
    anonymous = AnonymousSettings(weight=1, per_identity=True, limits=NO_LIMITS) if identities else None
    return structs.replace(open_policy("TGI", names, {}), anonymous=anonymous)


def _fill(proxy: Proxy, tenant: Tenant, chance: random.Random) -> None:
    """Some requests of several ends: one of them really through the scheduler, if the tenant queues its own."""
    for outcome in (Outcome.COMPLETED, Outcome.CLIENT_GONE, Outcome.QUEUE_FULL):
        tenant.outcomes[outcome] += chance.randint(1, 10**6)
    tenant.input_tokens, tenant.output_tokens = chance.randint(0, 10**9), chance.randint(0, 10**9)
    for histogram in (tenant.queue_seconds, tenant.first_token_seconds, tenant.request_seconds):
        for _ in range(20):
            histogram.observe(chance.expovariate(0.5))
    if tenant.split:
        return
    scheduler = proxy.dispatcher.scheduler
    request = Request(tenant.node, chance.randint(1, 10**6), 1000, prompt_exact=True)
    scheduler.enqueue(request)
    scheduler.start_out_of_turn(request)
    scheduler.output(request, chance.randint(1, 1000), exact=True)
    scheduler.finish(request)
