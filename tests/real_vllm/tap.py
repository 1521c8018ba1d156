"""Stands between proxy and engine, passes everything on as it comes, and keeps what passed.

One event of vLLM is one HTTP chunk. `hold_after` lets so many chunks of the next stream pass and keeps the others back,
so that it is certain what the proxy has seen when its client hangs up.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from fairqueue_api.address import Address

_LOOK_SECONDS = 0.005
_LARGEST_LINE_BYTES = 1 << 24

Headers = list[tuple[str, str]]


@dataclass
class Tapped:
    """One request and what came of it; times are seconds from the request."""

    method: str
    path: str
    headers: Headers
    body: bytes
    began: float = field(default_factory=time.monotonic)
    status: int | None = None
    reason: str = ""
    reply_headers: Headers = field(default_factory=list)
    headers_at: float | None = None
    chunks: list[tuple[float, bytes]] = field(default_factory=list)
    end_at: float | None = None
    closed_at: float | None = None

    @property
    def reply(self) -> bytes:
        return b"".join(chunk for _, chunk in self.chunks)

    def now(self) -> float:
        return round(time.monotonic() - self.began, 4)


class Tap:
    def __init__(self, engine: Address) -> None:
        self._engine = engine
        self._connections: set[asyncio.Task[None]] = set()
        self.address = engine
        self.tapped: list[Tapped] = []
        self.hold_after: int | None = None

    def posted(self) -> list[Tapped]:
        """Those that ask for something; the proxy itself looks at the metrics."""
        return [each for each in self.tapped if each.method == "POST"]

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Tap"]:
        server = await asyncio.start_server(self._accepted, "127.0.0.1", 0, limit=_LARGEST_LINE_BYTES)
        self.address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
        try:
            yield self
        finally:
            server.close()
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            engine = await asyncio.open_connection(self._engine.host, self._engine.port, limit=_LARGEST_LINE_BYTES)
        except OSError:
            writer.close()
            return
        passing = asyncio.ensure_future(self._pass(reader, writer, *engine))
        try:
            while not passing.done() and not _has_ended(reader):
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            passing.cancel()
            await asyncio.gather(passing, return_exceptions=True)
            for each in (engine[1], writer):
                each.close()

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        engine_reader: asyncio.StreamReader,
        engine_writer: asyncio.StreamWriter,
    ) -> None:
        while True:
            first, headers, head = await _head(reader)
            body = await reader.readexactly(int(_value(headers, "content-length") or 0))
            tapped = Tapped(first[0], first[1], headers, body)
            self.tapped.append(tapped)
            engine_writer.write(head + body)
            try:
                await self._pass_reply(tapped, engine_reader, writer)
            finally:
                if tapped.end_at is None:
                    tapped.closed_at = tapped.now()

    async def _pass_reply(self, tapped: Tapped, engine: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, tapped.reply_headers, head = await _head(engine)
        tapped.status, tapped.reason, tapped.headers_at = int(first[1]), first[2], tapped.now()
        writer.write(head)
        if _value(tapped.reply_headers, "transfer-encoding") == "chunked":
            await self._pass_chunks(tapped, engine, writer)
        elif size := int(_value(tapped.reply_headers, "content-length") or 0):
            body = await engine.readexactly(size)
            tapped.chunks.append((tapped.now(), body))
            writer.write(body)
        tapped.end_at = tapped.now()

    async def _pass_chunks(self, tapped: Tapped, engine: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hold_after = self.hold_after if tapped.method == "POST" else None
        while True:
            if hold_after is not None and len(tapped.chunks) == hold_after:
                await asyncio.get_running_loop().create_future()
            line = await engine.readuntil(b"\r\n")
            payload = await engine.readexactly(int(line, 16) + 2)
            writer.write(line + payload)
            if len(payload) == 2:
                return
            tapped.chunks.append((tapped.now(), payload[:-2]))


def _has_ended(reader: asyncio.StreamReader) -> bool:
    return reader.at_eof() or reader.exception() is not None


async def _head(reader: asyncio.StreamReader) -> tuple[list[str], Headers, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return first.split(" ", 2), [(name.lower(), value.strip()) for name, _, value in pairs], head


def _value(headers: Headers, name: str) -> str | None:
    return dict(headers).get(name)
