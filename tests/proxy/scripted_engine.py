"""An engine that a test plays: health, limits and metrics answer by themselves, every POST is the test's to answer."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

PATIENCE_SECONDS = 10.0

STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(content: object) -> bytes:
    """One event, in a chunk of its own."""
    return chunk(b"data: " + json.dumps(content).encode() + b"\n\n")


def json_reply(content: object, status: int = 200) -> bytes:
    body = json.dumps(content).encode()
    head = f"HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def tgi_token(text: str, *, last: bool = False) -> bytes:
    """An event of TGI's native stream."""
    token = {"id": 1, "text": text, "logprob": -0.1, "special": False}
    details = {"finish_reason": "length", "generated_tokens": 3, "seed": None, "input_length": 5} if last else None
    return event({"index": 1, "token": token, "generated_text": text if last else None, "details": details})


class Play:
    """One request that the proxy has sent, and its connection."""

    def __init__(self, head: bytes, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.head = head
        self.body = body
        self._reader = reader
        self._writer = writer
        self.over = asyncio.Event()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    def answer(self, data: bytes) -> None:
        """The whole reply, or its end: the connection takes the next request."""
        self._writer.write(data)
        self.over.set()

    @property
    def unsent_bytes(self) -> int:
        return self._writer.transport.get_write_buffer_size()

    def close(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        tcp = self._writer.get_extra_info("socket")
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def closed_by_proxy(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            with suppress(ConnectionError):
                assert await self._reader.read() == b""


class ScriptedEngine:
    """`info` is what the route that tells the limits says; `answers` has raw replies to what is no POST, by method and
    path, before all others: None is no answer at all, for as long as the connection lasts."""

    def __init__(self, info: dict[str, Any]) -> None:
        self.info = info
        self.healthy = True
        self.metrics = b""
        self.answers: dict[str, bytes | None] = {}
        self.asked: list[bytes] = []
        """The heads of all that was no POST."""
        self.given_up = asyncio.Event()
        """The proxy has closed a connection on which there was no answer."""
        self.port = 0
        self._plays: asyncio.Queue[Play] = asyncio.Queue()
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuses connections from now on and cuts those there are."""
        if self._server is None:
            return
        self._server.close()
        for task in self._tasks:
            task.cancel()
        for writer in self._writers:
            if not writer.is_closing():
                writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    async def play(self) -> Play:
        """The next request."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._plays.get()

    @property
    def unanswered(self) -> int:
        """Requests that have come and that no test has taken yet."""
        return self._plays.qsize()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self._tasks.append(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = [line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                # The body is the play's alone, so that a test can let go of it.
                play = Play(head, await reader.readexactly(int(length[0])) if length else b"", reader, writer)
                if head.startswith(b"POST"):
                    self._plays.put_nowait(play)
                    await play.over.wait()
                    continue
                self.asked.append(head)
                answer = self._answer(*head.decode("latin-1").split()[:2])
                if answer is None:
                    with suppress(ConnectionError):
                        await reader.read()
                    self.given_up.set()
                else:
                    writer.write(answer)
                # So that a request comes on a connection of its own, and is not sent again when that breaks.
                writer.close()
                return
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _answer(self, method: str, path: str) -> bytes | None:
        if f"{method} {path}" in self.answers:
            return self.answers[f"{method} {path}"]
        if path == "/metrics":
            return b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + self.metrics
        if path in ("/info", "/props", "/v1/models"):
            return json_reply(self.info)
        return json_reply({}, 200 if self.healthy else 500)


@asynccontextmanager
async def scripted_engine(**info: Any) -> AsyncIterator[ScriptedEngine]:
    """A listening one, for the length of the block."""
    engine = ScriptedEngine(info)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()
