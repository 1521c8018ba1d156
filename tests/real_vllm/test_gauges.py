"""vLLM's own gauges and its own limit, seen through the proxy."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.raw_client import RawClient, Reply, ask, request
from proxy_stack import Stack, serving_proxy
from real_vllm.bench import LOOK_SECONDS, PATIENCE_SECONDS, RUNNING, TENANTS, Bench, value_of
from real_vllm.cases import COMPLETIONS
from real_vllm.server import MODEL

pytestmark = pytest.mark.asyncio(loop_scope="session")

LONG = {"model": MODEL, "prompt": "import os", "max_tokens": 8000, "temperature": 0, "ignore_eos": True, "stream": True}
SHORT = LONG | {"max_tokens": 4, "stream": False}
# Samples that move by themselves, or by being looked at.
MOVING = ("process_", "python_", "http_", "# ")


async def relayed(stack: Stack) -> str:
    return (await stack.get(stack.data, "/metrics"))[1]


@asynccontextmanager
async def streams(bench: Bench, number: int, *, through: Stack | None = None) -> AsyncIterator[None]:
    """So many long streams, to the engine itself, which is idle before, or through a proxy, until the block ends."""
    if through is None:
        await bench.idle_counts()
    address = bench.server.address if through is None else through.data
    tenant = None if through is None else "bob"
    clients = []
    try:
        for _ in range(number):
            clients.append(await RawClient(address).__aenter__())
            clients[-1].send(request(COMPLETIONS, LONG, tenant=tenant))
        yield
    finally:
        for client in clients:
            await client.__aexit__()


async def until_gauges(bench: Bench, running: int, waiting: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while [*(await bench.engines_own(*RUNNING)).values()] != [running, waiting]:
            await asyncio.sleep(LOOK_SECONDS)


async def test_the_metrics_of_an_idle_engine_are_relayed_line_by_line(bench: Bench) -> None:
    await bench.idle_counts()
    own = (await bench.stack.get(bench.server.address, "/metrics"))[1]
    got = await relayed(bench.stack)
    assert [line for line in got.splitlines() if not line.startswith(MOVING)] == [
        line for line in own.splitlines() if not line.startswith(MOVING)
    ]
    assert 'vllm:num_requests_waiting{engine="0",model_name="tiny"} 0.0' in got


async def test_the_engines_own_queue_is_in_the_relayed_gauge(bench: Bench) -> None:
    async with streams(bench, 6):
        await until_gauges(bench, 4, 2)
        text = await relayed(bench.stack)
    assert [value_of(text, f"{name}{{") for name in RUNNING] == [4, 2]


async def test_the_proxys_queue_is_added_to_the_engines(bench: Bench, tmp_path: Path) -> None:
    policy = {"kind": "VLLM", "tenants": TENANTS, "backpressure": {"maxRequests": 1}}
    async with (
        serving_proxy(tmp_path, bench.server.address.port, tmp_path / "log", **policy) as stack,
        streams(bench, 5),
        streams(bench, 3, through=stack),
    ):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len((await stack.queue())["queued"]) < 2:
                await asyncio.sleep(LOOK_SECONDS)
        # Whether one is in the proxy's queue or in the engine's, it is in the sum, but for the moment when it moves.
        async with asyncio.timeout(PATIENCE_SECONDS):
            while [value_of(await relayed(stack), f"{name}{{") for name in RUNNING] != [4, 4]:
                await asyncio.sleep(LOOK_SECONDS)


async def test_what_the_full_engine_refuses_waits_and_is_charged_once(bench: Bench) -> None:
    name = bench.name()
    async with streams(bench, 6):
        await until_gauges(bench, 4, 2)
        refused = await ask(bench.server.address, request(COMPLETIONS, SHORT))
        assert (refused.status, b"currently busy" in refused.body) == (503, True)
        asking: asyncio.Task[Reply] = asyncio.ensure_future(bench.through(COMPLETIONS, SHORT, name=name))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not any(each.status == 503 for each in bench.tap.posted()):
                await asyncio.sleep(LOOK_SECONDS)
        assert not asking.done()
    reply = await asking
    usage = reply.json["usage"]
    line = await bench.line(name)
    assert (reply.status, line["outcome"]) == (200, "completed")
    assert (line["input_tokens"], line["output_tokens"]) == (usage["prompt_tokens"], usage["completion_tokens"])


async def test_what_the_engine_has_never_room_for_is_tried_again_and_then_relayed(bench: Bench) -> None:
    body = LONG | {"prompt": list("abcdefgh"), "max_tokens": 4}
    asked, charged, name = len(bench.tap.posted()), await bench.charged(), bench.name()
    got = await bench.through(COMPLETIONS, body, name=name)
    line, tried = await bench.line(name), bench.tap.posted()[asked:]
    assert (got.status, got.body, b'"code": 503' in got.body) == (200, tried[-1].reply, True)
    assert len(tried) > 1
    assert (line["outcome"], await bench.charged()) == ("engine_error", charged)
