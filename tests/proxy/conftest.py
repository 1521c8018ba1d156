"""What the proxy's behaviour tests share. They run on uvloop, as `fairqueue serve` does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import uvloop

from fairqueue_sim import RunningEngine, running_engine
from proxy.changing import Versions
from proxy.scripted_engine import ScriptedEngine, scripted_engine
from proxy_stack import Stack, running_proxy

PATIENCE_SECONDS = 10.0
LOOK_SECONDS = 0.002

StartProxy = Callable[..., Awaitable[Stack]]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def loop_errors() -> AsyncIterator[list[dict[str, Any]]]:
    """What reached the loop's exception handler: nothing, or the test fails."""
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
    yield errors
    assert errors == []


@pytest.fixture
async def start_proxy(tmp_path: Path, loop_errors: list[dict[str, Any]]) -> AsyncIterator[StartProxy]:
    """Starts a proxy in this process: `await start_proxy(engine.port, tenants=..., queue=...)`. At the end it must
    hold nothing any more: no job, no byte, no slot."""
    async with AsyncExitStack() as stack:
        started: list[Stack] = []

        async def start(engine_port: int, **policy: Any) -> Stack:
            policy.setdefault("tenants", [{"name": "alice"}, {"name": "bob"}])
            folder = tmp_path / f"proxy-{len(started)}"
            folder.mkdir()
            started.append(await stack.enter_async_context(running_proxy(folder, engine_port, **policy)))
            return started[-1]

        yield start
    for each in started:
        assert_nothing_held(each)


def assert_nothing_held(stack: Stack) -> None:
    assert stack.proxy is not None
    dispatcher = stack.proxy.dispatcher
    assert dispatcher.jobs == []
    assert dispatcher.in_flight == 0
    assert repr(dispatcher.backlog) == "<Backlog 0 queued, 0 bytes>"
    assert [budget.used for budget in dispatcher.capacity.budgets] == [0, 0, 0, 0]
    assert all(node.reserved == 0 and not node.active for node in dispatcher.scheduler.nodes())


@pytest.fixture
async def engine() -> AsyncIterator[RunningEngine]:
    """A simulated TGI with a millisecond a step."""
    async with running_engine("tgi", profile="tiny") as running:
        yield running


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedEngine]:
    """An engine that the test plays."""
    async with scripted_engine(max_concurrent_requests=64, max_total_tokens=4096) as playing:
        yield playing


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    """Makes a policy change while its proxy runs."""
    return Versions(tmp_path)


@pytest.fixture
def until() -> Until:
    """Waits until something holds that nobody tells about."""

    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            # Nothing in the proxy tells when its state changes.
            while not condition():
                await asyncio.sleep(LOOK_SECONDS)

    return wait
