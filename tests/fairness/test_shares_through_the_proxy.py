"""Who gets what, through the real proxy and real sockets, from a simulated engine with a batch of its own.

Shares are read from the engine's truth log, not from the proxy. Each measure starts after a warm-up and ends while
everybody is still backlogged, so that no start and no drain is in it.
"""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from fairqueue_sim import RunningEngine, running_engine
from proxy_stack import Stack, bearer, serving_proxy


class Clients:
    """Closed-loop clients of several tenants: each worker sends one streamed request after another."""

    def __init__(self, stack: Stack, engine: RunningEngine, seed: int = 7) -> None:
        self._stack = stack
        self._engine = engine
        self._random = random.Random(seed)
        self._tenant_of: dict[str, str] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
        )

    def start(self, tenant: str, workers: int) -> None:
        for number in range(workers):
            self._tasks.append(asyncio.create_task(self._work(tenant, f"{tenant}-{number}")))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()

    def service(self) -> dict[str, int]:
        """Prompt tokens and twice the output tokens that the engine has made for each tenant so far."""
        served: dict[str, int] = {}
        for truth in self._engine.truth.requests:
            tenant = self._tenant_of[truth.request_id or ""]
            served[tenant] = served.get(tenant, 0) + truth.prompt_tokens + 2 * truth.made_tokens
        return served

    async def measure(self, warm_up_tokens: int, tokens: int) -> dict[str, int]:
        """Service of each tenant while the engine makes `tokens` output tokens, after a warm-up."""
        await self._until(lambda: self.output_tokens() >= warm_up_tokens)
        before = self.service()
        start = self.output_tokens()
        await self._until(lambda: self.output_tokens() >= start + tokens)
        return {tenant: served - before.get(tenant, 0) for tenant, served in self.service().items()}

    def output_tokens(self) -> int:
        return sum(truth.made_tokens for truth in self._engine.truth.requests)

    async def metric(self, name: str) -> float:
        """A metric of the proxy that has no labels."""
        return float(re.findall(rf"^fairqueue_{name} (\S+)", await self._stack.metrics(), re.MULTILINE)[0])

    async def _until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            failed = [task for task in self._tasks if task.done()]
            assert not failed, failed[0]
            await asyncio.sleep(0.02)

    async def _work(self, tenant: str, name: str) -> None:
        number = 0
        while True:
            number += 1
            request_id = f"{name}-{number}"
            self._tenant_of[request_id] = tenant
            body = {
                "inputs": "word " * self._random.randint(5, 40),
                "parameters": {"max_new_tokens": self._random.randint(16, 96)},
            }
            headers = {**bearer(tenant), "x-request-id": request_id}
            async with self._session.post(f"{self._stack.url}/generate_stream", json=body, headers=headers) as reply:
                assert reply.status == 200, await reply.text()
                async for _ in reply.content.iter_any():
                    pass


@asynccontextmanager
async def arena(folder: Path, slots: int, tenants: list[dict[str, Any]]) -> AsyncIterator[Clients]:
    """Engine, proxy and clients; asserts at the end that the gap never exceeded its bound while they ran."""
    async with (
        running_engine("tgi", profile="a10g-llama2-7b", speed=8, slots=slots, mean_output_tokens=0) as engine,
        serving_proxy(
            folder, engine.port, folder / "log", tenants=tenants, backpressure={"maxRequests": slots}
        ) as stack,
    ):
        clients = Clients(stack, engine)
        watch = asyncio.create_task(_watch_gap(stack.metrics))
        try:
            yield clients
        finally:
            watch.cancel()
            await clients.stop()
            results = await asyncio.gather(watch, return_exceptions=True)
            assert isinstance(results[0], asyncio.CancelledError), results[0]


async def _watch_gap(metrics: Callable[[], Awaitable[str]]) -> None:
    while True:
        text = await metrics()
        gap, bound = (
            float(re.findall(rf'fairqueue_fairness_{name}{{group=""}} (\S+)', text)[0]) for name in ("gap", "bound")
        )
        assert gap <= bound, (gap, bound)
        await asyncio.sleep(0.1)


def share(served: dict[str, int], tenant: str) -> float:
    """The tenant's part of all service."""
    return served[tenant] / sum(served.values())


@pytest.mark.long
async def test_weights_1_and_3_share_1_to_3(tmp_path: Path) -> None:
    async with arena(tmp_path, 24, [{"name": "one"}, {"name": "three", "weight": 3}]) as clients:
        clients.start("one", 40)
        clients.start("three", 40)
        # What is in flight at the two ends of a measure is a few requests on one side or the other.
        served = await clients.measure(6_000, 150_000)
    ratio = served["three"] / served["one"]
    print(f"shares 1:{ratio:.3f}")
    assert abs(ratio / 3 - 1) <= 0.02, f"shares 1:{ratio:.3f}"


@pytest.mark.long
async def test_a_tenant_capped_at_one_in_flight_costs_the_others_nothing(tmp_path: Path) -> None:
    tenants = [{"name": "a"}, {"name": "b"}, {"name": "capped", "limits": {"maxInFlight": 1}}]
    async with arena(tmp_path, 24, tenants) as clients:
        for tenant in ("a", "b", "capped"):
            clients.start(tenant, 40)
        served = await clients.measure(6_000, 40_000)
        idle = await clients.metric("idle_capacity_seconds_total")
    assert idle < 0.1, f"something was free for {idle:.2f} s while somebody waited"
    assert abs(served["a"] / served["b"] - 1) <= 0.03, served
    assert 0.8 / 24 <= share(served, "capped") <= 1.2 / 24, served


@pytest.mark.long
@pytest.mark.parametrize(("cap", "least"), [(1, 0.93), (2, 0.93), (3, 0.85)])
async def test_a_capped_tenant_beside_7_floods_gets_what_its_cap_and_share_allow(
    tmp_path: Path, cap: int, least: float
) -> None:
    floods = [f"flood-{number}" for number in range(7)]
    tenants = [{"name": name} for name in floods]
    async with arena(tmp_path, 24, [*tenants, {"name": "capped", "limits": {"maxInFlight": cap}}]) as clients:
        for name in (*floods, "capped"):
            clients.start(name, 12)
        served = await clients.measure(6_000, 40_000)
    got = share(served, "capped") / (min(cap, 24 / 8) / 24)
    print(f"cap {cap}: {got:.3f} of min(cap, share)")
    assert got >= least, f"{got:.3f} of min(cap, share): {served}"


@pytest.mark.long
async def test_four_closed_loop_users_beside_a_flood_on_8_slots_get_most_of_their_share(tmp_path: Path) -> None:
    async with arena(tmp_path, 8, [{"name": "chat"}, {"name": "flood"}]) as clients:
        clients.start("chat", 4)
        clients.start("flood", 30)
        served = await clients.measure(4_000, 25_000)
    got = share(served, "chat") / 0.5
    print(f"chat: {got:.3f} of its share")
    assert got >= 0.8, f"{got:.3f} of its share: {served}"
