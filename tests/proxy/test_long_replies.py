"""Long replies and large bodies: what is too long to be held is charged all the same, and what need not be held is
not."""

import asyncio
import gc
import json
import tracemalloc
from collections.abc import AsyncIterator, Iterator

import pytest

from fairqueue_proxy import engine_watch
from proxy.conftest import StartProxy, Until
from proxy.raw_client import RawClient, request
from proxy.samples import sample
from proxy.scripted_engine import (
    LAST_CHUNK,
    STREAM_HEAD,
    Play,
    ScriptedEngine,
    chunk,
    event,
    json_reply,
    scripted_engine,
    tgi_token,
)
from proxy_stack import Stack

MEBIBYTE = 1 << 20
PADDING = "y" * (5 * MEBIBYTE)
COMPLETION = {"prompt": "hello", "n_predict": 1000}
PIECES = 16


@pytest.fixture
async def llama() -> AsyncIterator[ScriptedEngine]:
    async with scripted_engine(total_slots=8, default_generation_settings={"n_ctx": 100_000}) as engine:
        yield engine


def piecewise(play: Play, body: bytes) -> None:
    """Answers in chunks, without a length."""
    size = len(body) // PIECES + 1
    pieces = [chunk(body[start : start + size]) for start in range(0, len(body), size)]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    play.answer(head + b"".join(pieces) + LAST_CHUNK)


async def tokens(stack: Stack, kind: str) -> float:
    return sample(await stack.metrics(), "tokens_total", tenant="alice", kind=kind)


@pytest.mark.parametrize("in_chunks", [False, True], ids=["with a length", "in chunks"])
async def test_a_plain_reply_too_long_to_be_held_is_charged_by_the_counts_at_its_end(
    start_proxy: StartProxy, llama: ScriptedEngine, until: Until, in_chunks: bool
) -> None:
    stack = await start_proxy(llama.port, kind="LlamaCpp")
    timings = {"cache_n": 4, "prompt_n": 1, "prompt_ms": 6.9, "predicted_n": 1000, "predicted_ms": 49.1}
    content = {"content": "x", "tokens_predicted": 1000, "prompt": PADDING, "timings": timings}
    async with RawClient(stack.data) as client:
        client.send(request("/completion", COMPLETION, tenant="alice"))
        play = await llama.play()
        if in_chunks:
            piecewise(play, json.dumps(content).encode())
        else:
            play.answer(json_reply(content))
        assert (await client.reply()).json == content
    metrics = await stack.metrics()
    assert sample(metrics, "tokens_total", tenant="alice", kind="output") == 1000
    assert sample(metrics, "tokens_total", tenant="alice", kind="input") == 1
    assert sample(metrics, "tokens_total", tenant="alice", kind="cached_input") == 4
    assert sample(metrics, "service_total", tenant="alice") == 2005
    assert sample(metrics, "requests_total", tenant="alice", outcome="completed") == 1


async def test_a_plain_reply_too_long_to_be_held_is_charged_by_the_usage_at_its_end(start_proxy: StartProxy) -> None:
    async with scripted_engine(object="list", data=[]) as openai:
        stack = await start_proxy(openai.port, kind="OpenAI")
        choice = {"index": 0, "message": {"content": PADDING}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 7, "completion_tokens": 900, "total_tokens": 907}
        async with RawClient(stack.data) as client:
            client.send(request("/v1/chat/completions", {"messages": []}, tenant="alice"))
            (await openai.play()).answer(json_reply({"choices": [choice], "usage": usage}))
            assert (await client.reply()).status == 200
        assert (await tokens(stack, "input"), await tokens(stack, "output")) == (7, 900)


async def test_a_plain_reply_too_long_to_be_held_that_has_no_counts_is_charged_by_its_time(
    start_proxy: StartProxy, llama: ScriptedEngine
) -> None:
    stack = await start_proxy(llama.port, kind="LlamaCpp")
    async with RawClient(stack.data) as client:
        # A stream from which the pace is learned: 5 tokens in 50 ms or a little more.
        client.send(request("/completion", {**COMPLETION, "stream": True}, tenant="bob"))
        play = await llama.play()
        play.write(STREAM_HEAD)
        await asyncio.sleep(0.05)
        play.answer(event({"content": "x", "stop": True, "tokens_predicted": 5, "tokens_evaluated": 5}) + LAST_CHUNK)
        await client.reply()
        client.send(request("/completion", COMPLETION, tenant="alice"))
        play = await llama.play()
        await asyncio.sleep(0.3)
        play.answer(json_reply({"content": "x", "prompt": PADDING}))
        assert (await client.reply()).status == 200
    # 30 tokens at that pace; a busy machine makes the pace lower and the time longer.
    assert 10 <= await tokens(stack, "output") <= 60
    assert sample(await stack.metrics(), "malformed_events_total") == 1


@pytest.fixture
def traced() -> Iterator[None]:
    """Memory is traced from here on."""
    gc.collect()
    tracemalloc.start(1)
    yield
    tracemalloc.stop()


BODY_BYTES = 12 * MEBIBYTE
STREAMS = {
    "TGI": ("/generate_stream", {"inputs": "x" * BODY_BYTES}, STREAM_HEAD + tgi_token("a")),
    "LlamaCpp": (
        "/completion",
        {"prompt": "x" * BODY_BYTES, "stream": True},
        STREAM_HEAD + event({"content": "x", "stop": False, "tokens_predicted": 1, "tokens_evaluated": 5}),
    ),
    "OpenAI": (
        "/v1/completions",
        {"prompt": "x" * BODY_BYTES, "stream": True},
        STREAM_HEAD + event({"choices": [{"index": 0, "text": "x"}]}),
    ),
}


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("kind", STREAMS)
async def test_a_body_is_held_no_longer_than_until_the_reply_begins(
    start_proxy: StartProxy, until: Until, kind: str
) -> None:
    path, body, beginning = STREAMS[kind]
    async with scripted_engine(max_total_tokens=10**9) as engine:
        stack = await start_proxy(engine.port, kind=kind)
        async with RawClient(stack.data) as client:
            data = request(path, body, tenant="alice")
            before = tracemalloc.get_traced_memory()[0]
            await client.send_all(data)
            play = await engine.play()
            # The engine's own copy.
            play.body = b""
            assert tracemalloc.get_traced_memory()[0] - before > BODY_BYTES
            play.write(beginning)
            await client.until(b"\r\n\r\n")
            await until(lambda: tracemalloc.get_traced_memory()[0] - before < BODY_BYTES / 4)
            play.answer(LAST_CHUNK)
            await client.until(LAST_CHUNK)


async def test_bytes_count_as_held_until_the_reply_begins_and_again_when_the_engine_had_no_room(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_watch, "OVERLOAD_PAUSE_SECONDS", 0.05)
    stack = await start_proxy(scripted.port)
    assert stack.proxy is not None
    backlog = stack.proxy.dispatcher.backlog
    data = request("/generate_stream", {"inputs": "x" * 100_000}, tenant="alice")
    size_bytes = len(data.partition(b"\r\n\r\n")[2])
    async with RawClient(stack.data) as client:
        client.send(data)
        play = await scripted.play()
        first = play.body
        assert (backlog.queued, backlog.held_bytes) == (0, size_bytes)
        play.answer(json_reply({"error": "Model is overloaded", "error_type": "overloaded"}, 429))
        await until(lambda: backlog.queued == 1)
        assert backlog.held_bytes == size_bytes
        play = await scripted.play()
        assert (play.body, backlog.queued, backlog.held_bytes) == (first, 0, size_bytes)
        play.write(STREAM_HEAD + tgi_token("a"))
        await client.until(b"\n\n")
        assert backlog.held_bytes == 0
        play.answer(tgi_token("b", last=True) + LAST_CHUNK)
        await client.until(LAST_CHUNK)
