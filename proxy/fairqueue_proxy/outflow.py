"""What clients have not read yet: bounded for each stream and in all, and who reads nothing is cut.

An `Outflow` is one client's connection while a reply is written to it. The engine's side is paused when too much is
buffered for its client, so that a slow reader costs its own stream and nobody else's. `Outflows.sweep` is called
every `SWEEP_SECONDS`; only streams with something buffered are looked at.

Whether a client reads can't be seen in our own buffer alone: the kernel takes more only when a good part of its own,
which may be megabytes, is free. So what the kernel still holds counts as unread, too.

Bytes go straight into the transport: aiohttp's writer would take three times as long for an event.
"""

import asyncio
import fcntl
import struct
import termios
from collections.abc import Callable
from typing import Protocol

from fairqueue_proxy.client_head import ClientHead

STREAM_LIMIT_BYTES = 1024 * 1024
TOTAL_LIMIT_BYTES = 64 * 1024 * 1024
STALL_SECONDS = 60.0
SWEEP_SECONDS = 0.1


class Source(Protocol):
    """Where the bytes come from."""

    def pause(self) -> None:
        """No more for now."""

    def resume(self) -> None:
        """Go on."""


class Outflow:
    """Writes one reply to its client and counts what stays behind: `open` once, `write` as often as need be, `end`.

    Nothing happens when the client has gone. `source` is held while too much is buffered.
    """

    __slots__ = ("_in_chunks", "_outflows", "_transport", "head", "moved_at", "paused", "size", "source", "unread")

    def __init__(self, outflows: "Outflows", transport: asyncio.Transport, head: ClientHead) -> None:
        self._outflows = outflows
        self._transport = transport
        self._in_chunks = head.in_chunks
        self.head = head
        self.source: Source | None = None
        self.paused = False
        self.size = 0
        self.unread = 0
        self.moved_at = 0.0

    @property
    def buffered_bytes(self) -> int:
        """What the kernel has not taken yet."""
        return 0 if self._transport.is_closing() else self._transport.get_write_buffer_size()

    def open(self, data: bytes = b"") -> None:
        """The head, and what there is of the body already, in one piece."""
        head = self.head
        if data and head.in_chunks:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._put(head.raw + data if head.has_body else head.raw)

    def write(self, data: bytes) -> None:
        """More of the body; never waits."""
        if not data:
            return
        if self._in_chunks:
            # RFC 9112, section 7.1.
            self._put(b"%x\r\n%b\r\n" % (len(data), data))
        elif self.head.has_body:
            self._put(data)

    def end(self) -> None:
        """The body was whole."""
        if self._in_chunks:
            self._put(b"0\r\n\r\n")

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
            if self.source is not None:
                self.source.pause()

    def release(self) -> None:
        """Lets the engine's side go on."""
        if self.paused:
            self.paused = False
            if self.source is not None:
                self.source.resume()

    def _put(self, data: bytes) -> None:
        transport = self._transport
        if transport.is_closing():
            return
        transport.write(data)
        self.unread += len(data)
        buffered = transport.get_write_buffer_size()
        if buffered or self.size:
            self._outflows.update(self, buffered)

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
