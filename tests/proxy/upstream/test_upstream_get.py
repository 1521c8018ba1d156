"""The small client for health, metrics and the like."""

from __future__ import annotations

import asyncio

import pytest

from fairqueue_proxy import upstream as upstream_module
from fairqueue_proxy.upstream import EngineUnreachable, ReplyLost, Upstream
from upstream_engine import OK, FakeClock, HandPlayedEngine, full_listener


async def test_get_returns_status_and_body(upstream: Upstream, engine: HandPlayedEngine) -> None:
    task = asyncio.create_task(upstream.get("/health?full=1", timeout_seconds=5.0, headers=[("x-key", "k")]))
    connection = await engine.accept()
    request = await connection.request()
    assert request.startswith(b"GET /health?full=1 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % engine.port)
    assert b"\r\nx-key: k\r\n" in request
    connection.write(b"HTTP/1.1 503 Loading\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nload\r\n3\r\ning\r\n0\r\n\r\n")
    assert await task == (503, b"loading")
    assert " 1 idle" in repr(upstream)


def test_an_ipv6_address_is_bracketed_in_the_authority() -> None:
    assert Upstream("::1", 8000, clock=FakeClock()).authority == "[::1]:8000"


async def test_get_gives_up_on_a_late_reply(upstream: Upstream, engine: HandPlayedEngine) -> None:
    with pytest.raises(ReplyLost, match=r"within 0\.02 s"):
        await upstream.get("/health", timeout_seconds=0.02)
    assert (await (await engine.accept()).closed_by_proxy()).startswith(b"GET /health")


async def test_get_says_when_it_could_not_even_connect(no_leaked_sockets: None) -> None:
    with full_listener() as port:
        upstream = Upstream("127.0.0.1", port, clock=FakeClock())
        with pytest.raises(EngineUnreachable, match=r"within 0\.02 s"):
            await upstream.get("/health", timeout_seconds=0.02)
        await upstream.close()


async def test_get_reports_a_lost_reply(upstream: Upstream, engine: HandPlayedEngine) -> None:
    task = asyncio.create_task(upstream.get("/health", timeout_seconds=5.0))
    connection = await engine.accept()
    await connection.request()
    connection.write(OK[:-1])
    connection.close()
    with pytest.raises(ReplyLost, match="in the middle"):
        await task


async def test_get_does_not_collect_without_a_bound(
    upstream: Upstream, engine: HandPlayedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream_module, "MAX_GET_REPLY_BYTES", 1000)
    task = asyncio.create_task(upstream.get("/metrics", timeout_seconds=5.0))
    connection = await engine.accept()
    connection.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1001)
    with pytest.raises(ReplyLost, match="larger than 1000 bytes"):
        await task
    await connection.closed_by_proxy()


async def test_a_cancelled_get_aborts_its_exchange(upstream: Upstream, engine: HandPlayedEngine) -> None:
    task = asyncio.create_task(upstream.get("/health", timeout_seconds=5.0))
    connection = await engine.accept()
    await connection.request()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await connection.closed_by_proxy()


async def test_an_engine_that_listens_is_reachable(upstream: Upstream, engine: HandPlayedEngine) -> None:
    assert await upstream.reachable()
    assert await (await engine.accept()).closed_by_proxy() == b""


async def test_an_engine_that_does_not_listen_is_not_reachable(upstream: Upstream, engine: HandPlayedEngine) -> None:
    await engine.stop_listening()
    assert not await upstream.reachable()
