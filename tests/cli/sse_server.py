"""A raw event-stream server over real sockets, whose every byte the test decides."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Exchange:
    """One request as it arrived, and the means to answer it."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    _writer: asyncio.StreamWriter
    closed: bool = False

    async def begin(self) -> None:
        await self._send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n", chunk=False
        )

    async def events(self, *payloads: object) -> None:
        """One HTTP chunk with these events; a string goes out as it is."""
        texts = (payload if isinstance(payload, str) else json.dumps(payload) for payload in payloads)
        await self._send("".join(f"data: {text}\n\n" for text in texts).encode())

    async def end(self) -> None:
        await self._send(b"0\r\n\r\n", chunk=False)

    async def refuse(self, status: int, *headers: str, body: str = "") -> None:
        head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status} No", *headers, f"Content-Length: {len(body)}"))
        await self._send(f"{head}\r\n{body}".encode(), chunk=False)

    async def chat(self, *texts: str, usage: tuple[int, int] | None = None) -> None:
        """A whole chat reply with these texts, one event each."""
        await self.begin()
        await self.events(*(chat_event(text) for text in texts), chat_event(None, "stop"))
        if usage is not None:
            await self.events({"choices": [], "usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]}})
        await self.events("[DONE]")
        await self.end()

    async def hang_up(self) -> None:
        self._writer.close()
        self.closed = True

    async def client_is_gone(self) -> None:
        """Returns once the client has closed its connection."""
        await self._writer.wait_closed()

    async def _send(self, data: bytes, *, chunk: bool = True) -> None:
        self._writer.write(b"%x\r\n%b\r\n" % (len(data), data) if chunk else data)
        await self._writer.drain()


Answer = Callable[[Exchange], Awaitable[None]]


def chat_event(text: str | None, finish_reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}]}


@dataclass(slots=True)
class SseServer:
    url: str = ""
    received: list[Exchange] = field(default_factory=list)
    stop_listening: Callable[[], None] = lambda: None


Serve = Callable[[Answer], Awaitable[SseServer]]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[SseServer]:
    server = SseServer()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await _read_head(reader):
                first, *lines = head.decode().split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                exchange = Exchange(first.split()[1], headers, body, writer)
                server.received.append(exchange)
                await answer(exchange)
                if exchange.closed:
                    return
        except ConnectionError:
            return
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(serve(reader, writer))
        tasks.add(task)

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    server.stop_listening = listener.close
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        await listener.wait_closed()
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    try:
        return (await reader.readuntil(b"\r\n\r\n"))[:-4]
    except asyncio.IncompleteReadError:
        return b""
