"""How commands run: on a fast loop, and those that serve until they are told to go."""

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")


def run_on_fast_loop(main: Coroutine[Any, Any, _Result]) -> _Result:
    """On uvloop, where it is installed."""
    try:
        import uvloop
    except ImportError:  # pragma: no cover - on systems without uvloop
        return asyncio.run(main)
    return uvloop.run(main)


class Told:
    """SIGTERM and Ctrl-C, from the moment when this is made: the first asks to finish, a second to end at once."""

    def __init__(self) -> None:
        self._to_finish, self._to_end = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._tell)

    async def to_finish(self) -> None:
        """Returns when it is time to go."""
        await self._to_finish.wait()

    async def finish(self, finishing: Coroutine[Any, Any, None]) -> None:
        """Finishes what was begun, unless told again meanwhile."""
        finished = asyncio.create_task(finishing)
        at_once = asyncio.create_task(self._to_end.wait())
        await asyncio.wait({finished, at_once}, return_when=asyncio.FIRST_COMPLETED)
        for task in (finished, at_once):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _tell(self) -> None:
        (self._to_end if self._to_finish.is_set() else self._to_finish).set()
