"""An event loop in a thread of its own, so that clients which block can be tested against servers which don't."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, TypeVar

import uvloop

# Bounds a test that would otherwise hang; no test waits for it.
PATIENCE_SECONDS = 60.0

T = TypeVar("T")


class Background:
    """Runs coroutines for other threads. A context manager: at its end everything that was entered is left again."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="servers")
        self._exit = AsyncExitStack()

    def __enter__(self) -> "Background":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.run(self._exit.aclose())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Begins; the result can be waited for."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Returns when it is done."""
        return self.start(coroutine).result(PATIENCE_SECONDS)

    def enter(self, context: AbstractAsyncContextManager[T]) -> T:
        """Enters it, until the background ends."""
        return self.run(self._exit.enter_async_context(context))
