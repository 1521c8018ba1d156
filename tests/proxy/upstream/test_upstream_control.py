"""Backpressure, giving up, broken sinks and cancelled senders: what the holder of an exchange can do to it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fairqueue_proxy.upstream import EngineUnreachable, Exchange, Upstream
from upstream_engine import (
    GET,
    OK,
    OK_EVENTS,
    EngineConnection,
    FakeClock,
    HandPlayedEngine,
    RecordingSink,
    full_listener,
    post,
)

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
# More than the kernel's buffers of both ends of a loopback connection together take.
LARGE_BODY = b"x" * (12 * 1024 * 1024)
LARGE_REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LARGE_BODY)


async def begin(upstream: Upstream, engine: HandPlayedEngine, sink: RecordingSink) -> tuple[Exchange, EngineConnection]:
    exchange = await upstream.send(GET, sink, method="GET")
    connection = await engine.accept()
    await connection.request()
    return exchange, connection


async def round_trip(upstream: Upstream, engine: HandPlayedEngine) -> None:
    """A whole other exchange: whatever the kernel had for the first one has been offered to the loop by then."""
    sink = RecordingSink()
    await upstream.send(GET, sink, method="GET")
    (await engine.accept()).write(OK)
    assert await sink.finished() == OK_EVENTS


async def test_a_paused_exchange_holds_the_engine_back_and_loses_nothing(
    upstream: Upstream, engine: HandPlayedEngine
) -> None:
    sink = RecordingSink()
    exchange, connection = await begin(upstream, engine, sink)
    exchange.pause()
    exchange.pause()
    connection.write(LARGE_REPLY + LARGE_BODY)
    await round_trip(upstream, engine)
    assert sink.events == []
    assert connection.unsent_bytes > 0
    exchange.resume()
    exchange.resume()
    await sink.finished()
    assert sink.kinds == ["head", "data", "end"]
    assert sink.body == LARGE_BODY


async def test_pausing_and_resuming_at_every_piece_changes_nothing(
    upstream: Upstream, engine: HandPlayedEngine
) -> None:
    loop = asyncio.get_running_loop()
    pauses = 0

    def toggle(kind: str) -> None:
        nonlocal pauses
        if kind == "data":
            pauses += 1
            exchange.pause()
            loop.call_soon(exchange.resume)

    sink = RecordingSink(toggle)
    exchange, connection = await begin(upstream, engine, sink)
    body = LARGE_BODY[: 4 * 1024 * 1024]
    connection.write(b"HTTP/1.1 200 OK\r\n\r\n" + body)
    connection.close()
    await sink.finished()
    assert sink.body == body
    assert sink.kinds[-1] == "end"
    assert pauses > 1


async def test_an_end_that_arrives_in_the_same_read_as_a_pause_is_delivered_and_the_connection_lives_on(
    upstream: Upstream, engine: HandPlayedEngine
) -> None:
    sink = RecordingSink(lambda kind: exchange.pause())
    exchange, connection = await begin(upstream, engine, sink)
    connection.write(OK)
    assert await sink.finished() == OK_EVENTS
    assert " 1 idle" in repr(upstream)
    # A connection left paused would not see the engine's close, nor the next reply.
    again = RecordingSink()
    await upstream.send(GET, again, method="GET")
    await connection.request()
    connection.write(OK)
    assert await again.finished() == OK_EVENTS
    exchange.resume()
    exchange.pause()
    assert " 1 idle" in repr(upstream)


@pytest.mark.parametrize("framing", ["length", "eof", "cut short"])
async def test_an_end_of_the_connection_during_a_pause_is_seen_after_it(
    upstream: Upstream, engine: HandPlayedEngine, framing: str
) -> None:
    head = {"length": b"Content-Length: 4\r\n", "eof": b"", "cut short": b"Content-Length: 5\r\n"}[framing]
    sink = RecordingSink()
    exchange, connection = await begin(upstream, engine, sink)
    exchange.pause()
    connection.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\nbody")
    connection.close()
    await round_trip(upstream, engine)
    assert sink.events == []
    exchange.resume()
    await sink.finished()
    assert sink.kinds == ["head", "data", "lost" if framing == "cut short" else "end"]
    assert sink.body == b"body"


@pytest.mark.parametrize("stage", ["before the head", "after the head", "paused", "sending"])
async def test_an_abort_closes_the_connection_and_silences_the_sink(
    upstream: Upstream, engine: HandPlayedEngine, stage: str
) -> None:
    sink = RecordingSink()
    if stage == "sending":
        exchange = await upstream.send(post(LARGE_BODY), sink, method="POST")
        connection = await engine.accept()
    else:
        exchange, connection = await begin(upstream, engine, sink)
    if stage == "after the head":
        connection.write(CHUNKED + b"2\r\nhi\r\n")
        await sink.until(lambda: sink.body == b"hi")
    if stage == "paused":
        exchange.pause()
        connection.write(OK)
    before = list(sink.events)
    exchange.abort()
    exchange.abort()
    assert " 0 busy, 0 idle" in repr(upstream)
    await connection.closed_by_proxy()
    exchange.resume()
    assert sink.events == before


@pytest.mark.parametrize("at", ["head", "data"])
async def test_an_abort_from_a_callback_is_the_last_one(upstream: Upstream, engine: HandPlayedEngine, at: str) -> None:
    sink = RecordingSink(lambda kind: exchange.abort() if kind == at else None)
    exchange, connection = await begin(upstream, engine, sink)
    connection.write(OK + b"garbage")
    await connection.closed_by_proxy()
    assert sink.kinds[-1] == at


async def test_an_abort_after_the_end_leaves_the_idle_connection_alone(
    upstream: Upstream, engine: HandPlayedEngine
) -> None:
    sink = RecordingSink(lambda kind: exchange.abort() if kind == "end" else None)
    exchange, connection = await begin(upstream, engine, sink)
    connection.write(OK)
    await sink.finished()
    exchange.abort()
    assert " 1 idle" in repr(upstream)


@pytest.mark.parametrize("error", [ValueError("bug"), OSError("bug")], ids=["ValueError", "OSError"])
@pytest.mark.parametrize("at", ["head", "data", "end", "lost"])
async def test_a_sink_that_raises_loses_its_connection_and_the_loop_hears_of_it(
    upstream: Upstream, engine: HandPlayedEngine, loop_errors: list[dict[str, Any]], at: str, error: Exception
) -> None:
    def fail(kind: str) -> None:
        if kind == at:
            raise error

    sink = RecordingSink(fail)
    _, connection = await begin(upstream, engine, sink)
    connection.write(OK[:-1] if at == "lost" else OK)
    if at == "lost":
        connection.close()
    await sink.finished()
    await connection.closed_by_proxy()
    # Whoever waits for the reply is told, unless the call that failed was the last one anyway.
    assert sink.kinds[-1] == ("end" if at == "end" else "lost")
    assert sink.kinds.count(at) == 1
    assert " 0 busy, 0 idle" in repr(upstream)
    assert [context["exception"] for context in loop_errors] == [error]
    loop_errors.clear()


async def test_a_sink_that_aborts_and_then_raises_is_not_called_again(
    upstream: Upstream, engine: HandPlayedEngine, loop_errors: list[dict[str, Any]]
) -> None:
    def abort_and_fail(kind: str) -> None:
        exchange.abort()
        raise ValueError("bug")

    sink = RecordingSink(abort_and_fail)
    exchange, connection = await begin(upstream, engine, sink)
    connection.write(OK)
    await connection.closed_by_proxy()
    assert sink.kinds == ["head"]
    assert [str(context["exception"]) for context in loop_errors] == ["bug"]
    loop_errors.clear()


async def test_a_cancelled_send_leaves_nothing_whenever_the_cancellation_comes(
    upstream: Upstream, engine: HandPlayedEngine
) -> None:
    for turns in range(12):
        sink = RecordingSink()
        task = asyncio.create_task(upstream.send(GET, sink, method="GET"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        try:
            exchange = await task
        except asyncio.CancelledError:
            pass
        else:
            # The connection was there before the cancellation: the exchange is the caller's.
            exchange.abort()
        assert repr(upstream).endswith(" 0 busy, 0 idle, 0 connecting>")
        assert sink.events == []


async def test_a_send_cancelled_while_connecting_closes_its_socket(no_leaked_sockets: None) -> None:
    with full_listener() as port:
        upstream = Upstream("127.0.0.1", port, clock=FakeClock())
        task = asyncio.create_task(upstream.send(GET, RecordingSink(), method="GET"))
        await asyncio.sleep(0)
        assert repr(upstream).endswith(" 1 connecting>")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert repr(upstream).endswith(" 0 busy, 0 idle, 0 connecting>")
        await upstream.close()


async def test_close_loses_what_is_under_way_and_drops_what_is_idle(engine: HandPlayedEngine) -> None:
    upstream = Upstream("127.0.0.1", engine.port, clock=FakeClock())
    idle, busy = RecordingSink(), RecordingSink()
    await upstream.send(GET, idle, method="GET")
    await upstream.send(GET, busy, method="GET")
    connections = [await engine.accept(), await engine.accept()]
    connections[0].write(OK)
    await idle.finished()
    await upstream.close()
    await upstream.close()
    assert busy.kinds == ["lost"]
    for connection in connections:
        await connection.closed_by_proxy()
    with pytest.raises(EngineUnreachable, match="are closed"):
        await upstream.send(GET, RecordingSink(), method="GET")


async def test_close_does_not_wait_for_a_connection_that_is_being_made(no_leaked_sockets: None) -> None:
    with full_listener() as port:
        upstream = Upstream("127.0.0.1", port, clock=FakeClock(), connect_timeout_seconds=3600.0)
        task = asyncio.create_task(upstream.send(GET, RecordingSink(), method="GET"))
        await asyncio.sleep(0)
        assert repr(upstream).endswith(" 1 connecting>")
        await upstream.close()
        with pytest.raises(EngineUnreachable):
            await task


async def test_a_close_that_begins_in_the_last_callback_keeps_no_connection(engine: HandPlayedEngine) -> None:
    upstream = Upstream("127.0.0.1", engine.port, clock=FakeClock())
    # Runs as far as a Task would that starts eagerly.
    closing = upstream.close()
    sink = RecordingSink(lambda kind: closing.send(None) and None if kind == "end" else None)
    _, connection = await begin(upstream, engine, sink)
    connection.write(OK)
    await connection.closed_by_proxy()
    closing.close()
    await upstream.close()
    assert sink.events == OK_EVENTS
