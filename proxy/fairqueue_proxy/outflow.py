"""What clients have not read yet: bounded for each stream and in all, and who reads nothing is cut.

An `Outflow` is one client's connection while a reply is relayed to it. The engine's side is paused when too much is
buffered for its client, so that a slow reader costs its own stream and nobody else's. `Outflows.sweep` is called
every `SWEEP_SECONDS`; only streams with something buffered are looked at.
"""

import asyncio
from collections.abc import Callable

STREAM_LIMIT_BYTES = 1024 * 1024
TOTAL_LIMIT_BYTES = 64 * 1024 * 1024
STALL_SECONDS = 60.0
SWEEP_SECONDS = 0.1


class Outflow:
    """Writes to one client's transport and counts what stays behind."""

    __slots__ = ("_outflows", "_pause", "_resume", "moved_at", "paused", "sent", "size", "transport", "written")

    def __init__(
        self,
        outflows: "Outflows",
        transport: asyncio.Transport,
        *,
        pause: Callable[[], None],
        resume: Callable[[], None],
    ) -> None:
        self._outflows = outflows
        self._pause = pause
        self._resume = resume
        self.transport = transport
        self.paused = False
        self.size = 0
        self.written = 0
        self.sent = 0
        self.moved_at = 0.0

    def wrote(self, size_bytes: int) -> None:
        """Bytes were given to the transport."""
        self.written += size_bytes
        buffered = self.transport.get_write_buffer_size()
        if buffered or self.size:
            self._outflows.update(self, buffered)

    def hold(self) -> None:
        """Stops the engine's side."""
        if not self.paused:
            self.paused = True
            self._pause()

    def release(self) -> None:
        """Lets the engine's side go on."""
        if self.paused:
            self.paused = False
            self._resume()


class Outflows:
    """All streams for whose clients something is buffered."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buffered: dict[Outflow, None] = {}
        self.total_bytes = 0

    def update(self, outflow: Outflow, buffered_bytes: int) -> None:
        """Takes in how much is buffered for a stream now, and pauses whom it must."""
        if not outflow.size:
            outflow.moved_at = self._clock()
            self._buffered[outflow] = None
        self._resize(outflow, buffered_bytes)
        if buffered_bytes > STREAM_LIMIT_BYTES:
            outflow.hold()
        if self.total_bytes > TOTAL_LIMIT_BYTES:
            fullest = max((other for other in self._buffered if not other.paused), key=lambda o: o.size, default=None)
            if fullest is not None:
                fullest.hold()

    def sweep(self) -> None:
        """Lets those go on who have caught up, and cuts those who read nothing."""
        now = self._clock()
        for outflow in list(self._buffered):
            transport = outflow.transport
            buffered = 0 if transport.is_closing() else transport.get_write_buffer_size()
            self._resize(outflow, buffered)
            sent = outflow.written - buffered
            if sent != outflow.sent:
                outflow.sent, outflow.moved_at = sent, now
            elif buffered and now - outflow.moved_at >= STALL_SECONDS:
                transport.abort()
                self._resize(outflow, 0)
            if outflow.size < STREAM_LIMIT_BYTES // 2 and self.total_bytes < TOTAL_LIMIT_BYTES:
                outflow.release()

    def _resize(self, outflow: Outflow, buffered_bytes: int) -> None:
        self.total_bytes += buffered_bytes - outflow.size
        outflow.size = buffered_bytes
        if not buffered_bytes:
            self._buffered.pop(outflow, None)
