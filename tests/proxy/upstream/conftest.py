"""Every asynchronous test here runs on the stock loop and on uvloop, and leaves no socket and no error behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvloop

from fairqueue_proxy.upstream import Upstream
from upstream_engine import FakeClock, HandPlayedEngine, open_tcp_sockets

LOOP_TURNS_FOR_CLOSING = 200


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def loop_errors() -> AsyncIterator[list[dict[str, Any]]]:
    """What reached the loop's exception handler. A test that provokes errors takes them out of the list."""
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
    yield errors
    assert errors == []


@pytest.fixture
async def no_leaked_sockets(loop_errors: list[dict[str, Any]]) -> AsyncIterator[None]:
    before = open_tcp_sockets()
    yield
    for _ in range(LOOP_TURNS_FOR_CLOSING):
        if open_tcp_sockets() == before:
            break
        await asyncio.sleep(0)
    assert open_tcp_sockets() == before


@pytest.fixture
async def engine(no_leaked_sockets: None) -> AsyncIterator[HandPlayedEngine]:
    engine = HandPlayedEngine()
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def upstream(engine: HandPlayedEngine, clock: FakeClock) -> AsyncIterator[Upstream]:
    upstream = Upstream("127.0.0.1", engine.port, clock=clock)
    yield upstream
    # Before `close()`: what a test has ended or given up must be gone by then.
    assert " 0 busy, " in repr(upstream)
    assert repr(upstream).endswith(" 0 connecting>")
    await upstream.close()
    assert " 0 busy, 0 idle, 0 connecting" in repr(upstream)
