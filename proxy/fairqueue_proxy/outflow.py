"""What clients have not read yet: bounded for each stream and in all, and who reads nothing is cut.

An `Outflow` is one client's connection while a reply is written to it. The engine's side is paused when too much is
buffered for its client, so that a slow reader costs its own stream and nobody else's. `Outflows.sweep` is called
every `SWEEP_SECONDS`; only streams with something buffered are looked at.

Whether a client reads can't be seen in our own buffer alone: the kernel takes more only when a good part of its own,
which may be megabytes, is free. So what the kernel still holds counts as unread, too.
"""

import asyncio
import fcntl
import struct
import termios
from collections.abc import Callable
from typing import cast

from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import StreamWriter

STREAM_LIMIT_BYTES = 1024 * 1024
TOTAL_LIMIT_BYTES = 64 * 1024 * 1024
STALL_SECONDS = 60.0
SWEEP_SECONDS = 0.1


def _nothing() -> None:
    return


class Outflow:
    """Writes to one client and counts what stays behind. `pause` and `resume` act on where the bytes come from."""

    __slots__ = (
        "_in_chunks",
        "_outflows",
        "_pause",
        "_resume",
        "_transport",
        "_writer",
        "moved_at",
        "paused",
        "size",
        "unread",
    )

    def __init__(
        self,
        outflows: "Outflows",
        writer: AbstractStreamWriter,
        transport: asyncio.Transport,
        *,
        pause: Callable[[], None] = _nothing,
        resume: Callable[[], None] = _nothing,
    ) -> None:
        self._outflows = outflows
        # What aiohttp's server hands out.
        self._writer = cast(StreamWriter, writer)
        self._transport = transport
        # The head has gone out, and what follows goes out in chunks (RFC 9112, section 7.1).
        self._in_chunks = False
        self._pause = pause
        self._resume = resume
        self.paused = False
        self.size = 0
        self.unread = 0
        self.moved_at = 0.0

    @property
    def buffered_bytes(self) -> int:
        """What the kernel has not taken yet."""
        return 0 if self._transport.is_closing() else self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Gives bytes to the transport; never waits. Nothing happens when the client has gone."""
        transport = self._transport
        if not data or transport.is_closing():
            return
        if self._in_chunks:
            # What the writer would do, by a third of the way.
            transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        elif not self._written(data):
            return
        self.unread += len(data)
        buffered = transport.get_write_buffer_size()
        if buffered or self.size:
            self._outflows.update(self, buffered)

    def has_moved(self) -> bool:
        """Whether the client has taken anything since the last call."""
        before, self.unread = self.unread, self.buffered_bytes + self._kernel_bytes()
        return self.unread < before

    def cut(self) -> None:
        """Breaks the client's connection."""
        self._transport.abort()

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

    def _written(self, data: bytes) -> bool:
        """Whether aiohttp's writer has taken it: with the head, and in chunks if the reply is."""
        writer = self._writer
        # With drain=False the coroutine never waits: it runs to its end here, without a task.
        try:
            writer.write(data, drain=False).send(None)
        except StopIteration:
            self._in_chunks = writer.chunked
            return True
        except ConnectionError:
            # The handler hears of it too, as a cancellation.
            return False
        raise AssertionError("a write that does not drain waited")

    def _kernel_bytes(self) -> int:
        """What the client's machine has not acknowledged (tcp(7), SIOCOUTQ)."""
        tcp = self._transport.get_extra_info("socket")
        try:
            return int(struct.unpack("i", fcntl.ioctl(tcp.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0])
        except (OSError, ValueError):
            # Closed meanwhile.
            return 0


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
            self._resize(outflow, outflow.buffered_bytes)
            if outflow.has_moved():
                outflow.moved_at = now
            elif outflow.size and now - outflow.moved_at >= STALL_SECONDS:
                outflow.cut()
                self._resize(outflow, 0)
            if outflow.size < STREAM_LIMIT_BYTES // 2 and self.total_bytes < TOTAL_LIMIT_BYTES:
                outflow.release()

    def _resize(self, outflow: Outflow, buffered_bytes: int) -> None:
        self.total_bytes += buffered_bytes - outflow.size
        outflow.size = buffered_bytes
        if not buffered_bytes:
            self._buffered.pop(outflow, None)
