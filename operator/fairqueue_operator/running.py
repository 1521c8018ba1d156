"""What the processes have in common: listening for as long as a block, what runs for ever, waiting for the first."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from .listener import Listener

EXIT_BAD_INPUT: Final = 2


class CannotStart(Exception):
    """Why there is no use in trying again; one line."""


@asynccontextmanager
async def listening(listener: Listener) -> AsyncIterator[None]:
    """Serves for as long as the block."""
    await listener.start()
    try:
        yield
    finally:
        await listener.stop()


@asynccontextmanager
async def running(background: list[Coroutine[Any, Any, None]]) -> AsyncIterator[Awaitable[None]]:
    """Runs what never ends by itself; the future is for the case that something does, which is a defect."""
    tasks = [asyncio.ensure_future(each) for each in background]
    try:
        yield asyncio.ensure_future(_failure(tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def first(*awaitables: Awaitable[Any]) -> None:
    """Waits for the first of them to end, and has the others end too. Raises what it raised."""
    waiting = [asyncio.ensure_future(each) for each in awaitables]
    try:
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    done.pop().result()


async def unless(told: Awaitable[Any], work: Coroutine[Any, Any, None]) -> None:
    """Does the work, to its end or until told; then it is given up as it is. Raises what it raised."""
    working = asyncio.ensure_future(work)
    telling = asyncio.ensure_future(told)
    await asyncio.wait([working, telling], return_when=asyncio.FIRST_COMPLETED)
    telling.cancel()
    if working.done():
        working.result()
    working.cancel()


async def _failure(tasks: "Sequence[asyncio.Future[None]]") -> None:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    done.pop().result()
    raise RuntimeError("something that runs for ever has ended")
