"""One exchange over real sockets: how replies end, how they get lost, and what becomes of the connection."""

from __future__ import annotations

import asyncio
import random
import socket
from itertools import pairwise
from typing import Any

import pytest

from fairqueue_proxy.upstream import EngineUnreachable, Upstream
from fairqueue_proxy.upstream_connection import Connection
from upstream_engine import GET, OK, OK_EVENTS, HandPlayedEngine, RecordingSink, full_listener, post

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_the_request_arrives_unchanged_and_the_reply_is_passed_on(
    upstream: Upstream, engine: HandPlayedEngine
) -> None:
    sink = RecordingSink()
    request = post(b'{"prompt": "hi"}')
    await upstream.send(request, sink, method="POST")
    connection = await engine.accept()
    assert await connection.request() == request
    connection.write(OK)
    assert await sink.finished() == OK_EVENTS
    assert " 1 idle" in repr(upstream)


async def test_events_of_a_stream_are_passed_on_one_by_one(upstream: Upstream, engine: HandPlayedEngine) -> None:
    sink = RecordingSink()
    await upstream.send(GET, sink, method="GET")
    connection = await engine.accept()
    await connection.request()
    connection.write(CHUNKED)
    await sink.until(lambda: sink.kinds == ["head"])
    for number in range(5):
        event = b"data: %d\n\n" % number
        connection.write(b"%x\r\n%s\r\n" % (len(event), event))
        # The engine waits for each event to have been seen before it makes the next.
        await sink.until(lambda event=event: sink.body.endswith(event))  # type: ignore[misc]
    connection.write(b"0\r\n\r\n")
    assert (await sink.finished())[-1] == ("end",)
    assert sink.body == b"".join(b"data: %d\n\n" % number for number in range(5))


async def test_random_cuts_into_writes_give_the_same_callbacks(upstream: Upstream, engine: HandPlayedEngine) -> None:
    dice = random.Random(20240710)
    body = bytes(dice.randrange(256) for _ in range(3000))
    pieces = [body[start : start + 300] for start in range(0, len(body), 300)]
    reply = CHUNKED + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    connection = None
    for _ in range(5):
        sink = RecordingSink()
        await upstream.send(GET, sink, method="GET")
        connection = connection or await engine.accept()
        await connection.request()
        edges = [0, *sorted(dice.sample(range(1, len(reply)), 20)), len(reply)]
        for start, end in pairwise(edges):
            await connection.write_all(reply[start:end])
            await asyncio.sleep(0)
        assert await sink.finished() == [
            ("head", 200, b"OK", [(b"Transfer-Encoding", b"chunked")]),
            ("data", body),
            ("end",),
        ]
    assert engine.connection_count == 1


def test_nagles_algorithm_is_switched_off() -> None:
    class BareTransport(asyncio.Transport):
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return tcp if name == "socket" else default

    upstream = Upstream("127.0.0.1", 1, clock=lambda: 0.0)
    with socket.socket() as tcp:
        assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
        Connection(upstream).connection_made(BareTransport())
        assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


async def test_a_reply_without_a_length_ends_when_the_engine_closes(
    upstream: Upstream, engine: HandPlayedEngine
) -> None:
    sink = RecordingSink()
    await upstream.send(GET, sink, method="GET")
    connection = await engine.accept()
    await connection.request()
    connection.write(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")
    await sink.until(lambda: sink.body == b"until the end")
    connection.close()
    assert (await sink.finished())[-1] == ("end",)
    assert " 0 busy, 0 idle" in repr(upstream)


async def test_a_reply_without_a_length_that_breaks_off_is_lost(upstream: Upstream, engine: HandPlayedEngine) -> None:
    sink = RecordingSink()
    await upstream.send(GET, sink, method="GET")
    connection = await engine.accept()
    await connection.request()
    connection.write(b"HTTP/1.1 200 OK\r\n\r\nuntil")
    await sink.until(lambda: sink.body == b"until")
    connection.reset()
    await sink.finished()
    assert "broke" in sink.lost_reason


@pytest.mark.parametrize(
    ("reply", "method"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", "GET", id="close"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "GET", id="HTTP/1.0"),
        pytest.param(OK + b"garbage", "GET", id="garbage"),
        pytest.param(OK * 3, "GET", id="three replies"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "HEAD", id="HEAD"),
        pytest.param(OK, "HEAD", id="HEAD with a body"),
    ],
)
async def test_after_such_a_reply_the_connection_is_closed(
    upstream: Upstream, engine: HandPlayedEngine, reply: bytes, method: str
) -> None:
    sink = RecordingSink()
    await upstream.send(GET, sink, method=method)
    connection = await engine.accept()
    await connection.request()
    connection.write(reply)
    events = await sink.finished()
    assert events[-1] == ("end",)
    assert sink.body == (b"" if method == "HEAD" else b"ok")
    await connection.closed_by_proxy()
    assert sink.events == events


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_after_a_reply_that_has_no_body_the_connection_is_kept(
    upstream: Upstream, engine: HandPlayedEngine, status: bytes
) -> None:
    sink = RecordingSink()
    await upstream.send(GET, sink, method="GET")
    connection = await engine.accept()
    connection.write(b"HTTP/1.1 " + status + b"\r\n\r\n")
    await sink.finished()
    assert sink.kinds == ["head", "end"]
    assert " 1 idle" in repr(upstream)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        pytest.param(b"", "before it replied", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le", "before it replied", id="half a head"),
        pytest.param(OK[:-1], "in the middle", id="half a body"),
        pytest.param(CHUNKED + b"2\r\nhi\r\n", "in the middle", id="half the chunks"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n", "malformed", id="not HTTP"),
        pytest.param(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "101", id="upgrade"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70_000, "head", id="endless head"),
    ],
)
async def test_a_reply_that_cannot_be_completed_is_lost_once(
    upstream: Upstream, engine: HandPlayedEngine, sent: bytes, reason: str
) -> None:
    sink = RecordingSink()
    await upstream.send(GET, sink, method="GET")
    connection = await engine.accept()
    await connection.request()
    connection.write(sent)
    connection.close()
    events = await sink.finished()
    assert reason in sink.lost_reason
    await connection.closed_by_proxy()
    assert sink.events == events
    assert engine.connection_count == 1


async def test_a_reset_before_the_reply_on_a_fresh_connection_loses_it(
    upstream: Upstream, engine: HandPlayedEngine
) -> None:
    sink = RecordingSink()
    await upstream.send(GET, sink, method="GET")
    connection = await engine.accept()
    await connection.request()
    connection.reset()
    await sink.finished()
    assert sink.kinds == ["lost"]
    assert engine.connection_count == 1


LARGE_BODY = b"x" * (12 * 1024 * 1024)


async def test_a_large_request_is_sent_whole(upstream: Upstream, engine: HandPlayedEngine) -> None:
    sink = RecordingSink()
    await upstream.send(post(LARGE_BODY), sink, method="POST")
    connection = await engine.accept()
    assert await connection.request() == post(LARGE_BODY)
    connection.write(OK)
    assert await sink.finished() == OK_EVENTS
    assert " 1 idle" in repr(upstream)


async def test_an_early_reply_is_passed_on_and_the_rest_of_the_request_is_dropped(
    upstream: Upstream, engine: HandPlayedEngine
) -> None:
    sink = RecordingSink()
    await upstream.send(post(LARGE_BODY), sink, method="POST")
    connection = await engine.accept()
    connection.write(OK)
    assert await sink.finished() == OK_EVENTS
    assert " 0 busy, 0 idle" in repr(upstream)
    assert len(await connection.closed_by_proxy()) < len(LARGE_BODY)


async def test_an_early_head_forbids_reuse_even_if_the_request_was_read_later(
    upstream: Upstream, engine: HandPlayedEngine
) -> None:
    sink = RecordingSink()
    await upstream.send(post(LARGE_BODY), sink, method="POST")
    connection = await engine.accept()
    connection.write(OK[:-1])
    await sink.until(lambda: sink.body == b"o")
    assert len(await connection.request()) > len(LARGE_BODY)
    connection.write(OK[-1:])
    assert await sink.finished() == OK_EVENTS
    assert await connection.closed_by_proxy() == b""


async def test_an_early_refusal_followed_by_a_close_is_still_read(upstream: Upstream, engine: HandPlayedEngine) -> None:
    sink = RecordingSink()
    await upstream.send(post(LARGE_BODY), sink, method="POST")
    connection = await engine.accept()
    await connection.write_all(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
    connection.close()
    await sink.finished()
    assert sink.kinds == ["head", "data", "end"]


async def test_a_refused_connection_sends_nothing_and_calls_nobody(
    upstream: Upstream, engine: HandPlayedEngine
) -> None:
    await engine.stop_listening()
    sink = RecordingSink()
    with pytest.raises(EngineUnreachable, match="cannot connect"):
        await upstream.send(GET, sink, method="GET")
    assert sink.events == []


async def test_a_host_that_does_not_resolve_is_unreachable(no_leaked_sockets: None) -> None:
    # No name may hold an empty label, so no resolver is asked.
    upstream = Upstream("a..b", 80, clock=lambda: 0.0)
    with pytest.raises(EngineUnreachable):
        await upstream.send(GET, RecordingSink(), method="GET")
    await upstream.close()


async def test_a_connection_that_is_not_accepted_in_time_is_unreachable(no_leaked_sockets: None) -> None:
    with full_listener() as port:
        upstream = Upstream("127.0.0.1", port, clock=lambda: 0.0, connect_timeout_seconds=0.05)
        with pytest.raises(EngineUnreachable, match="timed out"):
            await upstream.send(GET, RecordingSink(), method="GET")
        assert repr(upstream).endswith(" 0 connecting>")
        await upstream.close()


async def test_a_connection_that_breaks_before_the_request_is_written_is_unreachable(engine: HandPlayedEngine) -> None:
    class LateUpstream(Upstream):
        async def _open_socket(self, connection: Connection) -> None:
            await super()._open_socket(connection)
            # As if the engine's reset had been read before the sender's turn came.
            connection.drop()

    upstream = LateUpstream("127.0.0.1", engine.port, clock=lambda: 0.0)
    sink = RecordingSink()
    with pytest.raises(EngineUnreachable, match="at once"):
        await upstream.send(GET, sink, method="GET")
    assert sink.events == []
    await upstream.close()


async def test_a_connection_made_just_as_the_upstream_closes_is_closed_too(engine: HandPlayedEngine) -> None:
    class ClosingUpstream(Upstream):
        async def _open_socket(self, connection: Connection) -> None:
            await super()._open_socket(connection)
            await self.close()

    upstream = ClosingUpstream("127.0.0.1", engine.port, clock=lambda: 0.0)
    with pytest.raises(EngineUnreachable, match="at once"):
        await upstream.send(GET, RecordingSink(), method="GET")
    assert await (await engine.accept()).closed_by_proxy() == b""
