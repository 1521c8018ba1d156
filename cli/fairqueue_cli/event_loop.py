"""How commands run: on a fast loop, and those that serve until they are told to go."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fairqueue_api.told import Told

_Result = TypeVar("_Result")


def run_on_fast_loop(main: Coroutine[Any, Any, _Result]) -> _Result:
    """On uvloop, where it is installed."""
    try:
        import uvloop
    except ImportError:  # pragma: no cover - on systems without uvloop
        return asyncio.run(main)
    return uvloop.run(main)


async def until_told(told: Told, finish: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Waits until it is time to go, and finishes what was begun, unless told again meanwhile."""
    await told.to_finish.wait()
    finished = asyncio.create_task(finish())
    at_once = asyncio.create_task(told.to_end.wait())
    await asyncio.wait({finished, at_once}, return_when=asyncio.FIRST_COMPLETED)
    for task in (finished, at_once):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
