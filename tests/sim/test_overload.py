"""Who is refused when all permits are taken, and when a permit comes back."""

import asyncio
import contextlib
from typing import Any

import pytest

from fairqueue_sim import Outcome, running_engine
from sim.replay import (
    RECORDED,
    Connection,
    Reply,
    assert_same_chunks,
    exchange,
    normalised,
    post,
    recorded_reply,
    recording,
    request_bytes,
)
from sim.watched import WatchedTruth

OVERLOAD_CASES = [
    *("07-overload-generate", "07-overload-chat", "07-overload-completions", "07-overload-generate-stream"),
    *("07-overload-chat-stream", "07-overload-completions-stream-three-prompts", "07-overload-best-of"),
    *(
        pytest.param(f"07-overload-{case}", marks=pytest.mark.long)
        for case in ("root", "root-stream", "completions-stream", "completions-three-prompts")
    ),
]
SLOW_STREAM = {"inputs": "[[slow=50]] a", "parameters": {"max_new_tokens": 40}}
ONE_TOKEN = post("/generate", {"inputs": "b", "parameters": {"max_new_tokens": 1}})


async def _send_all(exchanges: list[dict[str, Any]], port: int, truth: WatchedTruth) -> list[Reply]:
    connections = []
    for number, recorded in enumerate(exchanges, 1):
        connection = await Connection.to(port)
        connections.append(connection)
        await connection.send(request_bytes(recorded["request"], port))
        await truth.until(lambda number=number: len(truth) >= number)  # type: ignore[misc]
    replies = await asyncio.gather(*(connection.reply() for connection in connections))
    for connection in connections:
        await connection.close()
    return list(replies)


@pytest.mark.parametrize("case", OVERLOAD_CASES)
async def test_requests_beyond_the_permits_are_refused_as_recorded(case: str) -> None:
    exchanges = recording(case)["exchanges"]
    truth = WatchedTruth()
    async with running_engine("tgi", **RECORDED, truth=truth, max_concurrent_requests=2, speed=5) as engine:
        replies = await _send_all(exchanges, engine.port, truth)
    for got, recorded in zip(replies, exchanges, strict=True):
        body = recorded["request"]["body"]
        expected = normalised(recorded_reply(recorded["response"]), body)
        got = normalised(got, body)
        assert (got.status, got.headers) == (expected.status, expected.headers), recorded["label"]
        assert_same_chunks(got.chunks, expected.chunks)


async def test_routes_without_permits_answer_when_all_are_taken() -> None:
    async with running_engine("tgi", **RECORDED, max_concurrent_requests=1) as engine:
        busy = await Connection.to(engine.port)
        await busy.send(post("/generate_stream", SLOW_STREAM))
        await busy.head()
        for recorded in recording("07-overload-other-routes")["exchanges"]:
            request = recorded["request"]
            if request["path"] in ("/chat_tokenize", "/info"):
                continue
            got = await exchange(engine.port, request_bytes(request, engine.port), method=request["method"])
            body = request["body"] or ""
            assert normalised(got, body) == normalised(recorded_reply(recorded["response"]), body), recorded["label"]
        await busy.close()


async def test_a_refused_request_is_in_the_truth_log_as_refused() -> None:
    async with running_engine("tgi", max_concurrent_requests=1) as engine:
        busy = await Connection.to(engine.port)
        await busy.send(post("/generate_stream", SLOW_STREAM))
        await busy.head()
        assert (await exchange(engine.port, ONE_TOKEN)).status == 429
        assert engine.truth.requests[1].outcome is Outcome.REFUSED
        await busy.close()


@pytest.mark.parametrize("path", ["/generate", "/generate_stream", "/v1/chat/completions", "/v1/completions"])
async def test_an_invalid_request_gives_its_permit_back(path: str) -> None:
    body = {"inputs": "", "prompt": "", "messages": [], "parameters": {"max_new_tokens": 1}, "max_tokens": 0}
    async with running_engine("tgi", max_concurrent_requests=1) as engine:
        for stream in (False, True):
            reply = await exchange(engine.port, post(path, body | {"stream": stream}))
            assert "Input validation error" in reply.chunks[0]
        assert (await exchange(engine.port, ONE_TOKEN)).status == 200


@pytest.mark.parametrize("path", ["/generate", "/generate_stream", "/v1/chat/completions"])
async def test_a_permit_of_a_queued_request_comes_back_when_its_client_leaves(path: str) -> None:
    truth = WatchedTruth()
    body = {"inputs": "b", "messages": [{"role": "user", "content": "b"}]}
    async with running_engine("tgi", truth=truth, max_concurrent_requests=2, slots=1) as engine:
        busy = await Connection.to(engine.port)
        await busy.send(post("/generate_stream", SLOW_STREAM))
        await truth.until(lambda: bool(truth.requests) and truth.requests[0].made_tokens > 0)
        queued = await Connection.to(engine.port)
        await queued.send(post(path, body))
        await truth.until(lambda: len(truth) == 2)
        await queued.close()
        left = await truth.until_ended(2)
        assert (left.outcome, left.made_tokens) == (Outcome.CANCELLED, 0)
        assert engine.engine.permits == 1  # type: ignore[attr-defined]
        await busy.close()


async def test_a_queued_completions_stream_that_is_left_keeps_its_permit_and_runs_two_steps() -> None:
    truth = WatchedTruth()
    async with running_engine("tgi", truth=truth, max_concurrent_requests=2, slots=1) as engine:
        busy = await Connection.to(engine.port)
        await busy.send(post("/generate_stream", {"inputs": "[[slow=5]] a", "parameters": {"max_new_tokens": 8}}))
        await truth.until(lambda: bool(truth.requests) and truth.requests[0].made_tokens > 0)
        queued = await Connection.to(engine.port)
        await queued.send(post("/v1/completions", {"prompt": "b", "max_tokens": 80, "stream": True}))
        await queued.head()
        await queued.close()
        refused = await exchange(engine.port, ONE_TOKEN)
        assert refused.status == 429
        left = await truth.until_ended(2)
        assert (left.outcome, left.made_tokens) == (Outcome.CANCELLED, 2)
        assert engine.engine.permits == 2  # type: ignore[attr-defined]
        with contextlib.suppress(ConnectionError):
            await busy.close()


async def test_a_reader_that_does_not_read_keeps_its_permit_after_the_engine_is_done() -> None:
    word = "x" * 8000
    body = {"inputs": f"[[word={word}]]", "parameters": {"max_new_tokens": 1000}}
    truth = WatchedTruth()
    async with running_engine(
        "tgi", truth=truth, max_concurrent_requests=1, speed=1000, max_input_tokens=3000
    ) as engine:
        slow = await Connection.to(engine.port)
        await slow.send(post("/generate_stream", body))
        await truth.until(lambda: bool(truth.requests) and truth.requests[0].made_tokens == 1000)
        assert engine.model.running <= 1
        assert (await exchange(engine.port, ONE_TOKEN)).status == 429
        slow.writer.transport.abort()
        await truth.until_ended(1)
        assert (await exchange(engine.port, ONE_TOKEN)).status == 200
