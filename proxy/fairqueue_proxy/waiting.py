"""Keeps the client of a stream that waits from giving up: after a while it gets `200` and comments.

Until then headers are held back, so that a refusal still has its status. Clients with a read time-out of ten seconds
live on a comment every five. A client that waits for a plain reply can't be kept alive this way.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

COMMENT_SECONDS = 5.0
COMMENT = b":\n\n"

HEADERS = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no")]


class Waiting:
    """An async context for the time until something is promised; afterwards `response` says whether it was early."""

    def __init__(
        self,
        request: web.BaseRequest,
        hold_seconds: float | None,
        dress: Callable[[web.StreamResponse, list[tuple[str, str]]], None],
    ) -> None:
        """`hold_seconds` None: nothing is ever sent early."""
        self._request = request
        self._hold_seconds = hold_seconds
        self._dress = dress
        # For most the engine answers long before.
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self.response: web.StreamResponse | None = None
        self.writer: AbstractStreamWriter | None = None

    async def __aenter__(self) -> "Waiting":
        if self._hold_seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(self._hold_seconds, self._begin)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        task = self._task
        if task is not None:
            task.cancel()
            # Waited for, not awaited: so that a cancellation that comes now, because the client leaves, is not lost.
            await asyncio.wait({task})
            failure = None if task.cancelled() else task.exception()
            if failure is not None and not isinstance(failure, ConnectionError):
                raise failure

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._keep_alive())

    async def _keep_alive(self) -> None:
        response = web.StreamResponse()
        self._dress(response, HEADERS)
        if self._request.version >= (1, 1):
            response.enable_chunked_encoding()
        self.writer = await response.prepare(self._request)
        self.response = response
        while True:
            await response.write(COMMENT)
            await asyncio.sleep(COMMENT_SECONDS)
