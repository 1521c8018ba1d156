"""Keep-alive: which connections are kept, for how long, and what happens when the engine closes one under a request."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref

import pytest

from fairqueue_proxy.upstream import Exchange, Upstream
from fairqueue_proxy.upstream_connection import Connection
from fairqueue_proxy.upstream_pool import IdlePool
from upstream_engine import (
    GET,
    OK,
    OK_EVENTS,
    EngineConnection,
    FakeClock,
    HandPlayedEngine,
    RecordingSink,
    WatchedUpstream,
    full_listener,
    post,
)


async def send_and_finish(upstream: Upstream, engine: HandPlayedEngine, reply: bytes = OK) -> EngineConnection:
    """One request and reply on a fresh connection."""
    sink = RecordingSink()
    await upstream.send(GET, sink, method="GET")
    connection = await engine.accept()
    await connection.request()
    connection.write(reply)
    await sink.finished()
    return connection


async def send_on(upstream: Upstream, connection: EngineConnection) -> tuple[RecordingSink, Exchange]:
    """A request that must arrive on the given idle connection."""
    sink = RecordingSink()
    exchange = await upstream.send(GET, sink, method="GET")
    assert await connection.request() == GET
    return sink, exchange


async def test_a_connection_is_used_again_and_again(upstream: Upstream, engine: HandPlayedEngine) -> None:
    connection = await send_and_finish(upstream, engine)
    for _ in range(3):
        sink, _ = await send_on(upstream, connection)
        connection.write(OK)
        assert await sink.finished() == OK_EVENTS
    assert engine.connection_count == 1


async def test_requests_under_way_together_have_a_connection_each(upstream: Upstream, engine: HandPlayedEngine) -> None:
    sinks = [RecordingSink() for _ in range(3)]
    for sink in sinks:
        await upstream.send(GET, sink, method="GET")
    assert " 3 busy, 0 idle" in repr(upstream)
    for _ in sinks:
        (await engine.accept()).write(OK)
    for sink in sinks:
        assert await sink.finished() == OK_EVENTS
    assert " 0 busy, 3 idle" in repr(upstream)


async def test_the_most_recently_used_connection_goes_first(upstream: Upstream, engine: HandPlayedEngine) -> None:
    sinks = [RecordingSink(), RecordingSink()]
    connections = []
    for sink in sinks:
        await upstream.send(GET, sink, method="GET")
        connections.append(await engine.accept())
        await connections[-1].request()
    for index in (1, 0):
        connections[index].write(OK)
        await sinks[index].finished()
    sink, _ = await send_on(upstream, connections[0])
    connections[0].write(OK)
    await sink.finished()


async def test_an_idle_connection_past_its_time_is_not_used(
    upstream: Upstream, engine: HandPlayedEngine, clock: FakeClock
) -> None:
    old = await send_and_finish(upstream, engine)
    clock.now_seconds += 4.0
    await send_and_finish(upstream, engine)
    assert await old.closed_by_proxy() == b""
    assert engine.connection_count == 2


async def test_an_idle_connection_just_before_its_time_is_used(
    upstream: Upstream, engine: HandPlayedEngine, clock: FakeClock
) -> None:
    connection = await send_and_finish(upstream, engine)
    clock.now_seconds += 3.99
    sink, _ = await send_on(upstream, connection)
    connection.write(OK)
    await sink.finished()


@pytest.mark.parametrize(
    ("engine_timeout", "idle_seconds", "is_used"),
    [(b"3", 1.99, True), (b"3", 2.0, False), (b"60", 3.99, True), (b"60", 4.0, False)],
)
async def test_the_engines_keep_alive_time_out_is_undercut_by_a_second(
    upstream: Upstream,
    engine: HandPlayedEngine,
    clock: FakeClock,
    engine_timeout: bytes,
    idle_seconds: float,
    is_used: bool,
) -> None:
    reply = b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=" + engine_timeout + b"\r\nContent-Length: 0\r\n\r\n"
    connection = await send_and_finish(upstream, engine, reply)
    clock.now_seconds += idle_seconds
    if is_used:
        sink, _ = await send_on(upstream, connection)
        connection.write(OK)
        await sink.finished()
    else:
        await send_and_finish(upstream, engine)
        await connection.closed_by_proxy()


async def test_a_keep_alive_time_out_of_a_second_forbids_reuse(upstream: Upstream, engine: HandPlayedEngine) -> None:
    reply = b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 0\r\n\r\n"
    connection = await send_and_finish(upstream, engine, reply)
    assert " 0 idle" in repr(upstream)
    assert await connection.closed_by_proxy() == b""


async def test_idle_connections_are_dropped_in_time_without_another_request(engine: HandPlayedEngine) -> None:
    upstream = Upstream("127.0.0.1", engine.port, clock=time.monotonic, idle_seconds=0.02)
    first = await send_and_finish(upstream, engine)
    await first.closed_by_proxy()
    # Once more: the timer was set again.
    second = await send_and_finish(upstream, engine)
    await second.closed_by_proxy()
    assert " 0 busy, 0 idle" in repr(upstream)
    await upstream.close()


async def test_a_shorter_keep_alive_brings_the_timer_forward() -> None:
    class Owner(Upstream):
        def connection_unusable(self, connection: Connection) -> None:
            dropped.put_nowait(connection)

    dropped: asyncio.Queue[Connection] = asyncio.Queue()
    owner = Owner("127.0.0.1", 1, clock=time.monotonic)
    pool = IdlePool(clock=time.monotonic, idle_seconds=3600.0, max_idle=2)
    patient, hasty = Connection(owner), Connection(owner)
    hasty.keep_alive_seconds = 1.01
    pool.put(patient)
    pool.put(hasty)
    assert await dropped.get() is hasty
    assert len(pool) == 1
    pool.clear()
    assert dropped.get_nowait() is patient


async def test_a_connection_that_is_closing_is_not_handed_out() -> None:
    owner = Upstream("127.0.0.1", 1, clock=FakeClock())
    pool = IdlePool(clock=FakeClock(), idle_seconds=4.0, max_idle=2)
    # It was never opened; one that the loop is about to report as lost looks the same.
    pool.put(Connection(owner))
    assert pool.take() is None
    pool.clear()


async def test_closing_the_upstream_stops_the_timer_of_idle_connections(engine: HandPlayedEngine) -> None:
    upstream = Upstream("127.0.0.1", engine.port, clock=FakeClock())
    await send_and_finish(upstream, engine)
    pool = weakref.ref(upstream._pool)
    await upstream.close()
    del upstream
    gc.collect()
    # A timer that still ran would keep it.
    assert pool() is None


@pytest.mark.parametrize("max_idle", [0, 1, 2])
async def test_no_more_than_max_idle_connections_are_kept(engine: HandPlayedEngine, max_idle: int) -> None:
    upstream = Upstream("127.0.0.1", engine.port, clock=FakeClock(), max_idle=max_idle)
    sinks = [RecordingSink() for _ in range(3)]
    for sink in sinks:
        await upstream.send(GET, sink, method="GET")
    connections = [await engine.accept() for _ in sinks]
    for connection, sink in zip(connections, sinks, strict=True):
        connection.write(OK)
        await sink.finished()
    assert f" {max_idle} idle" in repr(upstream)
    # The longest unused ones went.
    for connection in connections[: 3 - max_idle]:
        await connection.closed_by_proxy()
    await upstream.close()


@pytest.mark.parametrize("how", ["close", "reset", "bytes"])
async def test_an_idle_connection_that_the_engine_ends_leaves_the_pool_at_once(
    upstream: Upstream, engine: HandPlayedEngine, how: str
) -> None:
    connection = await send_and_finish(upstream, engine)
    assert " 1 idle" in repr(upstream)
    if how == "bytes":
        connection.write(OK)
    elif how == "reset":
        connection.reset()
    else:
        connection.close()
    await connection.closed_by_proxy()
    await send_and_finish(upstream, engine)
    assert " 1 idle" in repr(upstream)
    assert engine.connection_count == 2


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_request_on_a_reused_connection_that_dies_unanswered_is_sent_once_more(
    upstream: Upstream, engine: HandPlayedEngine, how: str
) -> None:
    first = await send_and_finish(upstream, engine)
    sink = RecordingSink()
    request = post(b"x" * 100_000)
    await upstream.send(request, sink, method="POST")
    await first.request()
    first.close() if how == "close" else first.reset()
    second = await engine.accept()
    assert await second.request() == request
    second.write(OK)
    assert await sink.finished() == OK_EVENTS
    assert engine.connection_count == 2


async def test_a_connection_that_is_replaced_is_closed_even_with_the_request_half_written(
    upstream: Upstream, engine: HandPlayedEngine
) -> None:
    first = await send_and_finish(upstream, engine)
    sink = RecordingSink()
    request = post(b"x" * (12 * 1024 * 1024))
    await upstream.send(request, sink, method="POST")
    first.half_close()
    second = await engine.accept()
    assert await second.request() == request
    second.write(OK)
    assert await sink.finished() == OK_EVENTS
    assert len(await first.closed_by_proxy()) < len(request)


async def test_a_request_is_held_only_while_it_may_have_to_be_sent_again(
    upstream: Upstream, engine: HandPlayedEngine
) -> None:
    sink = RecordingSink()
    exchange = await upstream.send(GET, sink, method="GET")
    assert exchange.request is None
    connection = await engine.accept()
    await connection.request()
    connection.write(OK)
    await sink.finished()
    sink, exchange = await send_on(upstream, connection)
    held = exchange.request
    assert held == GET
    connection.write(OK[:-1])
    await sink.until(lambda: sink.body == b"o")
    assert exchange.request is None
    connection.write(OK[-1:])
    await sink.finished()


async def test_a_close_that_crosses_the_request_is_invisible(upstream: Upstream, engine: HandPlayedEngine) -> None:
    first = await send_and_finish(upstream, engine)
    sink = RecordingSink()
    # The close is in the kernel before the request is written, but the proxy has not read it yet.
    first.reset()
    exchange = await upstream.send(GET, sink, method="GET")
    second = await engine.accept()
    await second.request()
    second.write(OK)
    assert await sink.finished() == OK_EVENTS
    exchange.abort()


async def test_a_request_is_not_sent_a_third_time(upstream: Upstream, engine: HandPlayedEngine) -> None:
    first = await send_and_finish(upstream, engine)
    sink, _ = await send_on(upstream, first)
    first.close()
    second = await engine.accept()
    await second.request()
    second.close()
    await sink.finished()
    assert sink.kinds == ["lost"]
    assert engine.connection_count == 2


@pytest.mark.parametrize("first_bytes", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n", OK[:-1]])
async def test_after_the_first_byte_of_a_reply_nothing_is_sent_again(
    upstream: Upstream, engine: HandPlayedEngine, first_bytes: bytes
) -> None:
    connection = await send_and_finish(upstream, engine)
    sink, _ = await send_on(upstream, connection)
    connection.write(first_bytes)
    connection.close()
    await sink.finished()
    assert sink.kinds[-1] == "lost"
    assert engine.connection_count == 1


async def test_a_request_that_cannot_be_sent_again_is_lost(upstream: Upstream, engine: HandPlayedEngine) -> None:
    connection = await send_and_finish(upstream, engine)
    sink, exchange = await send_on(upstream, connection)
    await engine.stop_listening()
    connection.close()
    await sink.finished()
    assert sink.kinds == ["lost"]
    assert "cannot connect" in sink.lost_reason
    exchange.abort()


async def test_an_abort_while_the_request_is_being_sent_again_is_final(engine: HandPlayedEngine) -> None:
    upstream = WatchedUpstream(engine.port)
    connection = await send_and_finish(upstream, engine)
    sink, exchange = await send_on(upstream, connection)
    with full_listener() as port:
        upstream.point_to(port)
        connection.close()
        await upstream.sending_again()
        assert repr(upstream).endswith(" 0 busy, 0 idle, 1 connecting>")
        resending = exchange.resending
        assert resending is not None
        exchange.abort()
        with pytest.raises(asyncio.CancelledError):
            await resending
    assert repr(upstream).endswith(" 0 busy, 0 idle, 0 connecting>")
    assert sink.events == []
    await upstream.close()


async def test_a_pause_while_the_request_is_being_sent_again_holds_on_the_new_connection(
    engine: HandPlayedEngine,
) -> None:
    upstream = WatchedUpstream(engine.port)
    first = await send_and_finish(upstream, engine)
    sink, exchange = await send_on(upstream, first)
    first.close()
    await upstream.sending_again()
    exchange.pause()
    second = await engine.accept()
    await second.request()
    second.write(OK)
    # Whatever the kernel had for the first exchange has been offered to the loop by the end of another.
    await send_and_finish(upstream, engine)
    assert sink.events == []
    exchange.resume()
    assert await sink.finished() == OK_EVENTS
    await upstream.close()


async def test_closing_the_upstream_loses_a_request_that_is_being_sent_again(engine: HandPlayedEngine) -> None:
    upstream = WatchedUpstream(engine.port)
    connection = await send_and_finish(upstream, engine)
    sink, _ = await send_on(upstream, connection)
    with full_listener() as port:
        upstream.point_to(port)
        connection.close()
        await upstream.sending_again()
        await upstream.close()
    assert sink.kinds == ["lost"]
