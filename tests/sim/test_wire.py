"""The HTTP/1.1 server: keep-alive, pipelining, comments in silences, draining."""

import asyncio

import pytest

from fairqueue_sim import Outcome, running_engine
from sim.replay import RECORDED, Connection, exchange, get, post, recording
from sim.watched import WatchedTruth

ONE = post("/generate", {"inputs": "a", "parameters": {"max_new_tokens": 1}})
STREAM = post("/generate_stream", {"inputs": "a", "parameters": {"max_new_tokens": 2}})


async def test_a_connection_serves_one_request_after_the_other() -> None:
    async with running_engine("tgi") as engine:
        connection = await Connection.to(engine.port)
        for data in (STREAM, ONE, STREAM):
            await connection.send(data)
            assert (await connection.reply()).status == 200
        await connection.close()


async def test_requests_sent_ahead_are_answered_in_order() -> None:
    async with running_engine("tgi", **RECORDED) as engine:
        connection = await Connection.to(engine.port)
        await connection.send(STREAM + get("/health") + ONE)
        replies = [await connection.reply() for _ in range(3)]
        await connection.close()
    assert [len(reply.chunks) for reply in replies] == [2, 0, 1]
    assert replies[2].chunks == ['{"generated_text":" word1"}']


async def test_a_request_may_come_in_any_pieces() -> None:
    async with running_engine("tgi", **RECORDED) as engine:
        connection = await Connection.to(engine.port)
        for position in range(0, len(ONE), 7):
            await connection.send(ONE[position : position + 7])
            await asyncio.sleep(0)
        assert (await connection.reply()).chunks == ['{"generated_text":" word1"}']
        await connection.close()


async def test_a_client_that_asks_for_it_is_told_to_go_on_before_it_sends_its_body() -> None:
    head, _, body = ONE.partition(b"\r\n\r\n")
    async with running_engine("tgi") as engine:
        connection = await Connection.to(engine.port)
        await connection.send(head + b"\r\nexpect: 100-continue\r\n\r\n")
        assert (await connection.reply()).status == 100
        await connection.send(body)
        assert (await connection.reply()).status == 200
        await connection.close()


async def test_connection_close_is_answered_and_done() -> None:
    async with running_engine("tgi") as engine:
        connection = await Connection.to(engine.port)
        await connection.send(ONE.replace(b"host: x\r\n", b"host: x\r\nconnection: close\r\n"))
        reply = await connection.reply()
        assert await connection.reader.read() == b""
        await connection.close()
    assert reply.header("connection") == "close"


async def test_an_upgrade_is_ignored() -> None:
    async with running_engine("tgi") as engine:
        upgrade = b"host: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        reply = await exchange(engine.port, get("/health").replace(b"host: x\r\n", upgrade), method="GET")
    assert reply.status == 200


async def _chunks_of_a_queued_stream(case: str) -> tuple[list[str], list[str]]:
    recorded = recording(case)
    truth = WatchedTruth()
    async with running_engine("tgi", truth=truth, slots=1, keep_alive_seconds=0.2) as engine:
        busy = await Connection.to(engine.port)
        # Long enough for the recorded two comments, with half a period to spare on both sides.
        await busy.send(post("/generate", {"inputs": "[[prefill=500]]", "parameters": {"max_new_tokens": 1}}))
        await truth.until(lambda: len(truth) == 1)
        got = await exchange(engine.port, post(recorded["request"]["path"], recorded["request"]["body"]))
        await busy.close()
    return got.chunks, [text for _, text in recorded["response"]["chunks"]]


async def test_silences_are_broken_by_comments_as_recorded() -> None:
    routes = ("stream", "chat-stream", "completions-stream")
    both = await asyncio.gather(*(_chunks_of_a_queued_stream(f"11-keepalive-{route}-queued") for route in routes))
    for got, recorded in both:
        assert got[:2] == recorded[:2] == [":\n\n", ":\n\n"]
        assert len(got) == len(recorded)


async def test_a_plain_request_waits_without_a_sign() -> None:
    async with running_engine("tgi", keep_alive_seconds=0.01) as engine:
        connection = await Connection.to(engine.port)
        await connection.send(post("/generate", {"inputs": "[[slow=30]]", "parameters": {"max_new_tokens": 2}}))
        reply = await connection.reply()
        await connection.close()
    assert len(reply.chunks) == 1


async def test_draining_closes_the_door_and_idle_connections_but_lets_replies_finish() -> None:
    truth = WatchedTruth()
    body = {"inputs": "[[slow=20]] a", "parameters": {"max_new_tokens": 8}}
    async with running_engine("tgi", truth=truth) as engine:
        idle = await Connection.to(engine.port)
        running = [await Connection.to(engine.port) for _ in range(2)]
        for connection, path in zip(running, ("/generate_stream", "/generate"), strict=True):
            await connection.send(post(path, body))
        await truth.until(lambda: len(truth) == 2 and truth.requests[1].made_tokens > 0)
        draining = asyncio.create_task(engine.drain())
        assert await idle.reader.read() == b""
        with pytest.raises(ConnectionRefusedError):
            await Connection.to(engine.port)
        stream, plain = [await connection.reply() for connection in running]
        await draining
        for connection in (idle, *running):
            await connection.close()
    assert (len(stream.chunks), plain.status) == (8, 200)
    assert {request.outcome for request in truth.requests} == {Outcome.DONE}


async def test_leaving_the_block_cuts_running_replies_off() -> None:
    async with running_engine("tgi") as engine:
        connection = await Connection.to(engine.port)
        await connection.send(post("/generate_stream", {"inputs": "[[slow=50]] a"}))
        await connection.chunk_after_head()
    assert not (await connection.reader.read()).endswith(b"0\r\n\r\n")
    await connection.close()
