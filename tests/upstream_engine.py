"""An engine played by hand, byte by byte, over real sockets, and a sink that writes down what it is told."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from fairqueue_proxy.upstream import Exchange, Upstream

# Bounds a test that would otherwise hang; no test waits for it.
PATIENCE_SECONDS = 10.0

GET = b"GET / HTTP/1.1\r\nHost: engine\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
OK_HEAD = ("head", 200, b"OK", [(b"Content-Length", b"2")])
OK_EVENTS = [OK_HEAD, ("data", b"ok"), ("end",)]


def post(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: engine\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


class RecordingSink:
    """Joins neighbouring pieces of body, whose sizes are the network's choice. `on_event` may react or raise."""

    def __init__(self, on_event: Callable[[str], None] | None = None) -> None:
        self.events: list[tuple[Any, ...]] = []
        self._on_event = on_event
        self._changed = asyncio.Event()

    @property
    def body(self) -> bytes:
        return b"".join(event[1] for event in self.events if event[0] == "data")

    @property
    def kinds(self) -> list[str]:
        return [event[0] for event in self.events]

    @property
    def lost_reason(self) -> str:
        assert self.kinds[-1] == "lost", self.events
        return str(self.events[-1][1])

    def reply_head(self, status: int, reason: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self._record("head", status, reason, headers)

    def reply_data(self, data: bytes) -> None:
        if self.events and self.events[-1][0] == "data":
            data = self.events.pop()[1] + data
        self._record("data", data)

    def reply_end(self) -> None:
        self._record("end")

    def reply_lost(self, reason: str) -> None:
        self._record("lost", reason)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def finished(self) -> list[tuple[Any, ...]]:
        await self.until(lambda: self.kinds[-1:] in (["end"], ["lost"]))
        return self.events

    def _record(self, *event: Any) -> None:
        self.events.append(event)
        self._changed.set()
        if self._on_event is not None:
            self._on_event(event[0])


class EngineConnection:
    """The engine's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def request(self) -> bytes:
        """Reads one whole request (head and, if announced, body)."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            head = await self._reader.readuntil(b"\r\n\r\n")
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    return head + await self._reader.readexactly(int(line.split(b":")[1]))
            return head

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def write_all(self, data: bytes) -> None:
        """Returns when the kernel has nearly all of it."""
        self._writer.write(data)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._writer.drain()

    @property
    def unsent_bytes(self) -> int:
        return self._writer.transport.get_write_buffer_size()

    def close(self) -> None:
        self._writer.close()

    def half_close(self) -> None:
        """Says that nothing more will be sent, and reads on."""
        self._writer.write_eof()

    def reset(self) -> None:
        """Closes with RST, as a crashing engine's kernel does for unread data."""
        tcp = self._writer.get_extra_info("socket")
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def closed_by_proxy(self) -> bytes:
        """Waits for the proxy's close; what came before it."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                return await self._reader.read()
            except ConnectionError:
                return b""


class HandPlayedEngine:
    """Accepts connections; the test plays each of them."""

    def __init__(self) -> None:
        self.connection_count = 0
        self.port = 0
        self._accepted: asyncio.Queue[EngineConnection] = asyncio.Queue()
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def accept(self) -> EngineConnection:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._accepted.get()

    async def stop_listening(self) -> None:
        """Connections that there are stay: from Python 3.12 on, waiting for the server would wait for them, too."""
        if self._server is not None:
            self._server.close()
            self._server = None
            await asyncio.sleep(0)

    async def stop(self) -> None:
        for writer in self._writers:
            # Aborting a transport that has closed by itself is an error on the stock loop.
            if not writer.is_closing() or writer.transport.get_write_buffer_size():
                writer.transport.abort()
        await self.stop_listening()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connection_count += 1
        self._writers.append(writer)
        self._accepted.put_nowait(EngineConnection(reader, writer))


class WatchedUpstream(Upstream):
    """Tells when a request is about to be sent again, and can be pointed to another port then."""

    def __init__(self, port: int) -> None:
        super().__init__("127.0.0.1", port, clock=FakeClock())
        self._sending_again = asyncio.Event()

    def point_to(self, port: int) -> None:
        self._port = port

    def send_again(self, exchange: Exchange) -> None:
        super().send_again(exchange)
        self._sending_again.set()

    async def sending_again(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._sending_again.wait()


class FakeClock:
    def __init__(self) -> None:
        self.now_seconds = 1000.0

    def __call__(self) -> float:
        return self.now_seconds


@contextmanager
def full_listener() -> Iterator[int]:
    """A port whose kernel queue is full: connection attempts are neither accepted nor refused."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def open_tcp_sockets() -> set[str]:
    """The TCP sockets that this process holds, by inode."""
    held = set()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            inode = os.readlink(f"/proc/self/fd/{descriptor}")
        except FileNotFoundError:
            # The descriptor by which the directory itself was listed.
            continue
        if inode.startswith("socket:"):
            with socket.socket(fileno=os.dup(int(descriptor))) as duplicate:
                if duplicate.family in (socket.AF_INET, socket.AF_INET6):
                    held.add(inode)
    return held
