"""What the engine does when a client leaves: the same steps as the recorded router's shard did."""

import asyncio
import socket
import struct
import time
from typing import Any

import pytest

from fairqueue_sim import Outcome, RequestTruth, running_engine
from sim.replay import (
    RECORDED,
    Connection,
    Reply,
    exchange,
    normalised,
    post,
    recorded_reply,
    recording,
    request_bytes,
)
from sim.watched import WatchedTruth

STREAMS = [
    *("09-disconnect-stream", "09-disconnect-stream-rst", "09-disconnect-half-close", "09-disconnect-root-stream"),
    *("09-disconnect-chat-stream", "09-disconnect-completions-stream"),
]
PLAIN = ["09-disconnect-plain", "09-disconnect-chat-plain", "09-disconnect-completions-plain"]


def _engine_steps(recorded: dict[str, Any]) -> int:
    """How many steps the recorded shard ran; each made one token."""
    return sum(detail.get("times", 1) for _, rpc, detail in recorded["engine_rpcs"] if rpc in ("Prefill", "Decode"))


def _made_after(request: RequestTruth, moment: float) -> int:
    return sum(made_at > moment for made_at in request.made)


def _leave(connection: Connection, how: str) -> None:
    if "rst" in how:
        raw = connection.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.writer.transport.abort()
    elif "half-close" in how:
        connection.writer.write_eof()
    else:
        connection.writer.close()


async def _leave_stream(case: str) -> None:
    recorded = recording(case)
    request = recorded["request"]
    expected = normalised(recorded_reply(recorded["response"]), request["body"])
    truth = WatchedTruth()
    async with running_engine("tgi", **RECORDED, truth=truth) as engine:
        connection = await Connection.to(engine.port)
        await connection.send(request_bytes(request, engine.port))
        _, headers = await connection.head()
        assert [name for name, _ in headers] == [name for name, _ in expected.headers], case
        chunks = [await connection.chunk() for _ in expected.chunks]
        left_at = time.monotonic()
        _leave(connection, case)
        left = await truth.until_ended()
        if "half-close" in case:
            # What comes after the half-close is cut off without a last chunk.
            assert not (await connection.reader.read()).endswith(b"0\r\n\r\n")
            connection.writer.close()
        assert engine.model.kv_used_tokens == 0, case
    assert normalised(Reply(200, expected.headers, chunks), request["body"]).chunks == expected.chunks
    assert (left.outcome, left.sent_tokens) == (Outcome.CANCELLED, len(chunks)), case
    assert _made_after(left, left_at) == _engine_steps(recorded) - len(chunks), case


async def _leave_plain(case: str) -> None:
    recorded = recording(case)
    truth = WatchedTruth()
    steps_before = _engine_steps(recorded) - 1
    async with running_engine("tgi", truth=truth) as engine:
        connection = await Connection.to(engine.port)
        await connection.send(request_bytes(recorded["request"], engine.port))
        await truth.until(lambda: bool(truth.requests) and truth.requests[0].made_tokens == steps_before)
        left_at = time.monotonic()
        connection.writer.close()
        left = await truth.until_ended()
        assert engine.engine.permits == 128, case  # type: ignore[attr-defined]
    assert (left.outcome, left.sent_tokens) == (Outcome.CANCELLED, 0), case
    assert _made_after(left, left_at) == 1, case


async def test_what_is_left_ends_after_as_many_steps_as_recorded() -> None:
    # All at once and at the recorded speed of a tenth of a second a step, which no hiccup of the machine exceeds.
    await asyncio.gather(*map(_leave_stream, STREAMS), *map(_leave_plain, PLAIN))


async def test_best_of_is_cancelled_with_all_its_copies() -> None:
    truth = WatchedTruth()
    async with running_engine("tgi", truth=truth) as engine:
        connection = await Connection.to(engine.port)
        await connection.send(request_bytes(recording("09-disconnect-best-of")["request"], engine.port))
        await truth.until(lambda: bool(truth.requests) and truth.requests[0].made_tokens == 4)
        connection.writer.close()
        left = await truth.until_ended()
        assert (left.made_tokens, engine.model.running, engine.model.kv_used_tokens) == (6, 0, 0)


async def test_of_two_streams_the_one_that_stays_is_not_disturbed() -> None:
    leaves, stays = recording("09-disconnect-one-of-two")["exchanges"]
    truth = WatchedTruth()
    async with running_engine("tgi", **RECORDED, truth=truth, speed=4) as engine:
        leaving = await Connection.to(engine.port)
        await leaving.send(request_bytes(leaves["request"], engine.port))
        await leaving.chunk_after_head()
        staying = asyncio.create_task(exchange(engine.port, request_bytes(stays["request"], engine.port)))
        for _ in range(3):
            await leaving.chunk()
        leaving.writer.close()
        assert (await truth.until_ended(1)).outcome is Outcome.CANCELLED
        reply = await staying
    assert len(reply.chunks) == stays["response"]["chunks_total"]
    assert normalised(reply, "[[").chunks[-1] == stays["response"]["chunks"][-1][1]


@pytest.mark.parametrize("path", ["/generate_stream", "/v1/completions"])
async def test_an_engine_that_dies_cuts_the_connection_in_place_of_the_token(path: str) -> None:
    truth = WatchedTruth()
    body = {"inputs": "[[die=3]]", "prompt": "[[die=3]]", "stream": True}
    async with running_engine("tgi", truth=truth) as engine:
        connection = await Connection.to(engine.port)
        await connection.send(post(path, body))
        await connection.head()
        assert await connection.chunk()
        assert await connection.chunk()
        assert await connection.reader.read() == b""
        connection.writer.close()
        died = await truth.until_ended()
        assert (died.outcome, died.sent_tokens) == (Outcome.ERROR, 2)
        assert engine.model.running == 0


async def test_everything_in_the_batch_dies_with_a_failing_request() -> None:
    truth = WatchedTruth()
    async with running_engine("tgi", **RECORDED, truth=truth, speed=4) as engine:
        bystander = await Connection.to(engine.port)
        body = {"inputs": "[[slow=20]] a", "parameters": {"max_new_tokens": 100}}
        await bystander.send(post("/generate_stream", body))
        await bystander.head()
        await bystander.chunk()
        failing = await exchange(engine.port, post("/generate", {"inputs": "[[fail=2]] b"}))
        chunks = (await bystander.reader.read(100_000)).decode()
        while '"error"' not in chunks:
            chunks += (await bystander.reader.read(100_000)).decode()
        await bystander.close()
        assert [request.outcome for request in truth.requests] == [Outcome.ERROR, Outcome.ERROR]
        assert (await exchange(engine.port, post("/generate", {"inputs": "[[eos=2]]"}))).status == 200
    assert failing.status == 424
    assert chunks.endswith('"error_type":"generation"}\n\n\r\n0\r\n\r\n')
