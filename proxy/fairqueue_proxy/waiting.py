"""Keeps the client of a stream that waits from giving up: after a while it gets `200` and comments.

Until then headers are held back, so that a refusal still has its status. Clients with a read time-out of ten seconds
live on a comment every five. A client that waits for a plain reply can't be kept alive this way.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType

from fairqueue_proxy.outflow import Outflow

COMMENT_SECONDS = 5.0
COMMENT = b":\n\n"

HEADERS = [(b"Content-Type", b"text/event-stream"), (b"Cache-Control", b"no-cache"), (b"X-Accel-Buffering", b"no")]


class Waiting:
    """A context for the time until something is promised; afterwards `outflow` says whether it was early."""

    def __init__(self, hold_seconds: float | None, begin: Callable[[], Outflow]) -> None:
        """`hold_seconds` None: nothing is ever sent early. `begin` makes the reply that is begun with; it raises
        ConnectionError where there is nobody to read it."""
        self._hold_seconds = hold_seconds
        self._begin = begin
        self._timer: asyncio.TimerHandle | None = None
        self.outflow: Outflow | None = None

    def __enter__(self) -> "Waiting":
        # For most the engine answers long before.
        if self._hold_seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(self._hold_seconds, self._open)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _open(self) -> None:
        try:
            self.outflow = self._begin()
        except ConnectionError:
            # Who waits is about to hear of it.
            return
        self.outflow.open()
        self._comment()

    def _comment(self) -> None:
        if self.outflow is not None:
            self.outflow.write(COMMENT)
        self._timer = asyncio.get_running_loop().call_later(COMMENT_SECONDS, self._comment)
