"""Peers that read or write slowly, or not at all, and too many of them."""

import asyncio
import resource
from contextlib import AsyncExitStack

import pytest

from fairqueue_proxy import outflow, proxy, receiving
from fairqueue_proxy.outflow import STREAM_LIMIT_BYTES
from fairqueue_sim import RunningEngine
from proxy.conftest import StartProxy, Until
from proxy.raw_client import RawClient, Reply, ask, request
from proxy.scripted_engine import LAST_CHUNK, STREAM_HEAD, Play, ScriptedEngine, chunk, tgi_token

GENERATE = {"inputs": "hello", "parameters": {"max_new_tokens": 2}}
LARGE_EVENT = chunk(b": " + b"x" * 65_000 + b"\n\n")
ONE_READ_BYTES = 512 * 1024
SMALL_BUFFER_BYTES = 4096


async def fill(play: Play) -> int:
    """Writes large events until for a while none is taken from the engine any more; how many were written."""
    written = blocked = 0
    async with asyncio.timeout(10):
        while blocked < 30:
            if play.unsent_bytes:
                blocked += 1
            else:
                blocked = 0
                play.write(LARGE_EVENT)
                written += 1
            await asyncio.sleep(0.002)
    return written


async def test_a_slow_reader_is_buffered_up_to_a_mebibyte_and_holds_up_nobody_but_its_own_engine_connection(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until
) -> None:
    stack = await start_proxy(scripted.port)
    assert stack.proxy is not None
    outflows = stack.proxy.outflows
    async with RawClient(stack.data, receive_buffer_bytes=SMALL_BUFFER_BYTES) as slow, RawClient(stack.data) as quick:
        slow.send(request("/generate_stream", GENERATE, tenant="alice"))
        slow.stop_reading()
        slow_play = await scripted.play()
        slow_play.write(STREAM_HEAD + tgi_token("a"))
        written = await fill(slow_play)
        assert STREAM_LIMIT_BYTES / 2 < outflows.total_bytes <= STREAM_LIMIT_BYTES + ONE_READ_BYTES
        quick.send(request("/generate_stream", GENERATE, tenant="bob"))
        play = await scripted.play()
        play.write(STREAM_HEAD + tgi_token("b"))
        await quick.head()
        for _ in range(20):
            play.write(tgi_token("b"))
            await quick.until(b"\n\n")
        # Reading again, it gets all that was written, in order.
        slow_play.answer(tgi_token("b", last=True) + LAST_CHUNK)
        slow.read_again()
        reply = await slow.reply()
        assert reply.body.count(b": " + b"x" * 65_000 + b"\n\n") == written
        assert [event["token"]["text"] for event in reply.events] == ["a", "b"]
        await until(lambda: outflows.total_bytes == 0)


async def test_who_reads_nothing_is_cut_and_its_engine_connection_too(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert outflow.STALL_SECONDS == 60.0
    monkeypatch.setattr(outflow, "STALL_SECONDS", 0.3)
    monkeypatch.setattr(proxy, "SWEEP_SECONDS", 0.02)
    stack = await start_proxy(scripted.port)
    assert stack.proxy is not None
    outflows = stack.proxy.outflows
    async with RawClient(stack.data, receive_buffer_bytes=SMALL_BUFFER_BYTES) as client:
        client.send(request("/generate_stream", GENERATE, tenant="alice"))
        client.stop_reading()
        play = await scripted.play()
        play.write(STREAM_HEAD + tgi_token("a"))
        async with asyncio.timeout(10):
            while not outflows.total_bytes:
                play.write(LARGE_EVENT)
                await asyncio.sleep(0.002)
        # The engine goes on all the time; it is the client who takes nothing.
        closed = asyncio.create_task(play.closed_by_proxy())
        async with asyncio.timeout(2):
            while not closed.done():
                play.write(tgi_token("b"))
                await asyncio.sleep(0.01)
        await closed
        assert outflows.total_bytes == 0
    assert 'fairqueue_requests_total{tenant="alice",outcome="client_gone"} 1\n' in await stack.metrics()


async def test_who_reads_a_little_now_and_then_is_not_cut(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outflow, "STALL_SECONDS", 1.0)
    monkeypatch.setattr(proxy, "SWEEP_SECONDS", 0.02)
    stack = await start_proxy(scripted.port)
    async with RawClient(stack.data, receive_buffer_bytes=SMALL_BUFFER_BYTES) as client:
        client.send(request("/generate_stream", GENERATE, tenant="alice"))
        play = await scripted.play()
        play.write(STREAM_HEAD + tgi_token("a"))
        await client.head()
        client.stop_reading()
        written = await fill(play)
        reading = 0
        for _ in range(6):
            await asyncio.sleep(0.2)
            client.read_again()
            # Far less than what makes the kernel take anything more from the proxy.
            wanted = reading + 20_000
            while reading < wanted:
                reading += len(await client.some(20_000))
            client.stop_reading()
        play.answer(LAST_CHUNK)
        client.read_again()
        rest = await client.until_quietly(LAST_CHUNK)
        assert reading + len(rest) > written * 65_000


@pytest.mark.parametrize("size_bytes", [3_900_000, 4_500_000], ids=["buffered whole", "passed on as it comes"])
async def test_who_reads_nothing_of_a_plain_reply_is_cut(
    start_proxy: StartProxy,
    scripted: ScriptedEngine,
    monkeypatch: pytest.MonkeyPatch,
    size_bytes: int,
) -> None:
    monkeypatch.setattr(outflow, "STALL_SECONDS", 0.2)
    monkeypatch.setattr(proxy, "SWEEP_SECONDS", 0.02)
    stack = await start_proxy(scripted.port)
    async with RawClient(stack.data, receive_buffer_bytes=SMALL_BUFFER_BYTES) as client:
        client.send(request("/generate", GENERATE, tenant="alice"))
        play = await scripted.play()
        client.stop_reading()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % size_bytes
        play.answer(head + b'"' + b"x" * (size_bytes - 2) + b'"')
        await asyncio.sleep(0.6)
        client.read_again()
        assert len(await client.rest()) < size_bytes


async def test_a_long_plain_reply_arrives_whole(start_proxy: StartProxy, scripted: ScriptedEngine) -> None:
    stack = await start_proxy(scripted.port)
    async with RawClient(stack.data, receive_buffer_bytes=SMALL_BUFFER_BYTES) as client:
        for size_bytes in (3_000_000, 5_000_000):
            client.send(request("/generate", GENERATE, tenant="alice"))
            play = await scripted.play()
            play.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (size_bytes, b"y" * size_bytes))
            assert (await client.reply()).body == b"y" * size_bytes


async def test_who_sends_too_slowly_gets_408_and_is_disconnected(
    start_proxy: StartProxy, engine: RunningEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert receiving.BODY_SECONDS == 60.0
    monkeypatch.setattr(receiving, "BODY_SECONDS", 0.1)
    stack = await start_proxy(engine.port)
    async with RawClient(stack.data) as client:
        client.send(request("/generate", b'{"inputs": ', tenant="alice", headers={"Content-Length": "5000"}))
        reply = await client.reply()
        assert (reply.status, reply.json["reason"], reply.json["error_type"]) == (408, "bad_request", "validation")
        assert reply.headers["connection"] == "close"


@pytest.mark.parametrize("sent", [b"", b"POST /gene", b"POST /generate HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_who_never_ends_its_headers_is_disconnected(
    start_proxy: StartProxy, engine: RunningEngine, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(proxy, "KEEPALIVE_SECONDS", 0.1)
    stack = await start_proxy(engine.port)
    async with RawClient(stack.data) as client:
        client.send(sent)
        assert await client.rest() == b""


async def test_connections_beyond_the_cap_are_closed_and_those_below_are_served(
    start_proxy: StartProxy, engine: RunningEngine, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (64 + 2 * 20, 1_000_000))
    stack = await start_proxy(engine.port)
    async with AsyncExitStack() as exits:
        clients = [await exits.enter_async_context(RawClient(stack.data)) for _ in range(20)]
        replies: list[Reply] = [await client.ask(request("/health", method="GET")) for client in clients]
        assert {reply.status for reply in replies} == {200}
        async with RawClient(stack.data) as beyond:
            assert await beyond.rest() == b""
        # Those that were there first do not suffer, and a place that is given back can be taken.
        assert (await clients[0].ask(request("/generate", GENERATE, tenant="alice"))).status == 200
        clients[0].close()
        await clients[0].rest()
        assert (await ask(stack.data, request("/generate", GENERATE, tenant="alice"))).status == 200


@pytest.mark.parametrize(
    ("soft_limit", "memory_bytes", "cap"),
    [
        (1024, None, 480),
        (20_000, None, 9968),
        (20_000, 512 << 20, 9968),
        (1_000_000, 512 << 20, 10_737),
        (resource.RLIM_INFINITY, 512 << 20, 10_737),
        (1_000_000, 256 << 20, 16),
        (10, None, 16),
    ],
)
def test_the_cap_stays_below_the_descriptors_and_the_memory_that_there_are(
    monkeypatch: pytest.MonkeyPatch, soft_limit: int, memory_bytes: int | None, cap: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (soft_limit, soft_limit))
    assert proxy.connection_cap(memory_bytes) == cap
