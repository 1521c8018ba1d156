"""A client that speaks bytes: whatever a well-behaved library would not do, and exactly when."""

import asyncio
import json
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fairqueue_api.address import Address
from proxy_stack import bearer

# Bounds a test that would otherwise hang; no test waits for it.
PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The JSON of each event; what is no JSON stays text."""
        return [_json_or_text(line[5:].strip()) for line in self.body.split(b"\n") if line.startswith(b"data:")]


def _json_or_text(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data.decode()


def request(
    path: str,
    body: object = None,
    *,
    tenant: str | None = None,
    method: str = "POST",
    version: str = "1.1",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """A request's bytes; `body` is sent as JSON unless it is bytes. Headers with an empty value are left out."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    fields = {"Host": "proxy", "Content-Type": "application/json", "Content-Length": str(len(data))}
    fields |= bearer(tenant) if tenant is not None else {}
    fields |= headers or {}
    lines = [f"{method} {path} HTTP/{version}", *(f"{name}: {value}" for name, value in fields.items() if value)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + data


class RawClient:
    """One connection to a proxy, from `source` if that is given (any of 127.0.0.0/8 will do on loopback). Use as an
    async context manager."""

    def __init__(self, address: Address, *, receive_buffer_bytes: int | None = None, source: str | None = None) -> None:
        self._address = address
        self._receive_buffer_bytes = receive_buffer_bytes
        self._source = source
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> "RawClient":
        connection = socket.socket()
        if self._receive_buffer_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer_bytes)
        connection.setblocking(False)
        try:
            if self._source is not None:
                connection.bind((self._source, 0))
            await asyncio.get_running_loop().sock_connect(connection, (self._address.host, self._address.port))
            self._reader, self._writer = await asyncio.open_connection(sock=connection, limit=4096)
        except BaseException:
            connection.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.transport.abort()

    @property
    def local_port(self) -> int:
        return int(self._writer.get_extra_info("sockname")[1])

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def send_all(self, data: bytes) -> None:
        """Returns when the kernel has nearly all of it."""
        self._writer.write(data)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._writer.drain()

    def half_close(self) -> None:
        self._writer.write_eof()

    def close(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        """Closes with RST."""
        tcp = self._writer.get_extra_info("socket")
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def stop_reading(self) -> None:
        """Leaves what comes to the kernel, whose buffer soon is full."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    def read_again(self) -> None:
        self._writer.transport.resume_reading()  # type: ignore[attr-defined]

    async def until(self, mark: bytes) -> bytes:
        """What comes up to and with `mark`."""
        received = bytearray()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not received.endswith(mark):
                received += await self._reader.readexactly(1)
        return bytes(received)

    async def some(self, size_bytes: int) -> bytes:
        """The next bytes, up to so many."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._reader.read(size_bytes)

    async def until_quietly(self, mark: bytes) -> bytes:
        """All that comes, in large pieces, until something ends with `mark`."""
        received = bytearray()
        while not received.endswith(mark):
            received += await self.some(1 << 20)
        return bytes(received)

    async def rest(self) -> bytes:
        """All that comes until the proxy closes, by whatever kind of close."""
        received = bytearray()
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                while data := await self._reader.read(65536):
                    received += data
            except ConnectionError:
                pass
        return bytes(received)

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the next reply."""
        lines = (await self.until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = (line.partition(":") for line in lines[1:] if line)
        return int(lines[0].split()[1]), {name.lower(): value.strip() for name, _, value in fields}

    async def reply(self) -> Reply:
        """The next reply, read whole however it is framed."""
        status, headers = await self.head()
        async with asyncio.timeout(PATIENCE_SECONDS):
            if headers.get("transfer-encoding") == "chunked":
                body = await self._chunks()
            elif "content-length" in headers:
                body = await self._reader.readexactly(int(headers["content-length"]))
            else:
                body = await self._reader.read()
        return Reply(status, headers, body)

    async def ask(self, data: bytes) -> Reply:
        """Sends one request and reads its reply."""
        self.send(data)
        return await self.reply()

    async def _chunks(self) -> bytes:
        body = bytearray()
        while size := int((await self.until(b"\r\n")).strip(), 16):
            body += await self._reader.readexactly(size)
            await self._reader.readexactly(2)
        await self._reader.readexactly(2)
        return bytes(body)


async def ask(address: Address, data: bytes, *, source: str | None = None) -> Reply:
    """One request on a connection of its own."""
    async with RawClient(address, source=source) as client:
        return await client.ask(data)
