"""One random life of a request: what is sent, where the client gives up, and what it saw. Raw sockets."""

import asyncio
import contextlib
import json
import random
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Any

from proxy_stack import bearer

TENANTS = ("alpha", "beta", "capped", "narrow")
PLAIN, STREAM = "plain", "stream"
FATES = (
    ("normal", 50),
    ("leave_sending", 4),
    ("leave_waiting", 10),
    ("leave_mid_stream", 12),
    ("engine_fails", 2),
    ("engine_dies", 4),
    ("bad_key", 3),
    ("refused_route", 3),
    ("not_json", 3),
    ("too_large", 2),
    ("invalid", 4),
    ("slow_reader", 3),
)
BODY_LIMIT = 20_000


@dataclass(slots=True)
class Life:
    """The plan of a life, and then what became of it."""

    number: int
    tenant: str
    path: str
    body: dict[str, Any]
    streamed: bool
    fate: str
    how: str
    give_up_after: float
    request_id: str = ""
    chunked: bool = False
    """Its body goes out in chunks, without a length."""

    sent_at: float | None = None
    """When it began to send; None if it found nobody to send to."""

    status: int | None = None
    complete: bool = False
    reply: bytearray = field(default_factory=bytearray)
    closed_at: float | None = None
    """When it left before it had its whole reply; None if it stayed."""

    @property
    def most_output_tokens(self) -> int:
        """The longest output that it asks for, over all its prompts."""
        prompts = self.body.get("prompt")
        limit: int = self.body.get("parameters", {}).get("max_new_tokens") or self.body.get("max_tokens", 0)
        return limit * (len(prompts) if isinstance(prompts, list) else 1)


def draw(number: int, source: random.Random) -> Life:
    """A random life."""
    fate = source.choices([name for name, _ in FATES], [weight for _, weight in FATES])[0]
    streamed = source.random() < 0.6 or fate == "leave_mid_stream"
    words = "word " * source.randint(1, 30)
    if fate == "engine_fails":
        words = f"[[fail={source.randint(1, 6)}]] {words}"
    if fate == "engine_dies":
        words = f"[[die={source.randint(1, 6)}]] {words}"
    tokens: Any = source.randint(1, 40)
    if fate == "invalid":
        tokens = 0
    path, body = _request(source, words, tokens, streamed)
    if fate == "refused_route":
        path = source.choice(["/v1/unknown", "/generate/../metrics/x", "/%67enerate_"])
    if fate == "too_large":
        body["pad"] = "x" * BODY_LIMIT
    return Life(
        number,
        source.choice(TENANTS),
        path,
        body,
        streamed,
        fate,
        source.choice(["close", "reset", "half-close"]),
        source.uniform(0.0, 0.25),
        f"life-{number}",
        source.random() < 0.3,
    )


def _request(source: random.Random, words: str, tokens: Any, streamed: bool) -> tuple[str, dict[str, Any]]:
    kind = source.choice(["native", "root", "chat", "completions"])
    if kind == "native":
        parameters = {"max_new_tokens": tokens, "details": source.random() < 0.3}
        return ("/generate_stream" if streamed else "/generate"), {"inputs": words, "parameters": parameters}
    if kind == "root":
        return "/", {"inputs": words, "stream": streamed, "parameters": {"max_new_tokens": tokens}}
    if kind == "chat":
        body: dict[str, Any] = {"messages": [{"role": "user", "content": words}], "max_tokens": tokens}
        if streamed:
            body["stream"] = True
            if source.random() < 0.5:
                body["stream_options"] = {"include_usage": True}
        return "/v1/chat/completions", body
    prompts = [words] * source.randint(1, 3)
    body = {"prompt": prompts if len(prompts) > 1 else words, "max_tokens": tokens, "stream": streamed}
    return "/v1/completions", body


async def live(life: Life, host: str, port: int, *, barrier: asyncio.Barrier | None = None) -> None:
    """Lives it; whatever the other side does ends up in `life`. With a barrier it waits there twice: when it has been
    answered something else on its connection, and then before it begins."""
    content = json.dumps(life.body).encode() if life.fate != "not_json" else b'{"inputs": "unfinished'
    headers = {**bearer(life.tenant), "x-request-id": life.request_id, "Content-Type": "application/json"}
    if life.fate == "bad_key":
        headers["Authorization"] = "Bearer nobody"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    framing = "Transfer-Encoding: chunked" if life.chunked else f"Content-Length: {len(content)}"
    head = f"POST {life.path} HTTP/1.1\r\nHost: test\r\n{lines}{framing}\r\n\r\n".encode()
    content = _in_chunks(content) if life.chunked else content
    reader, writer = await asyncio.open_connection(host, port)
    try:
        if barrier is not None:
            writer.write(b"OPTIONS /generate HTTP/1.1\r\nHost: test\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            await barrier.wait()
            await barrier.wait()
        with contextlib.suppress(ConnectionError):
            await _talk(life, reader, writer, head, content)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def _in_chunks(content: bytes) -> bytes:
    """In pieces of growing size."""
    chunks, start = bytearray(), 0
    while piece := content[start : 2 * start + 7]:
        chunks += b"%x\r\n%s\r\n" % (len(piece), piece)
        start += len(piece)
    return bytes(chunks) + b"0\r\n\r\n"


async def _talk(
    life: Life, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes, content: bytes
) -> None:
    life.sent_at = time.monotonic()
    if life.fate == "leave_sending":
        writer.write(head + content[: len(content) // 2])
        await asyncio.sleep(life.give_up_after / 4)
        await _leave(life, reader, writer)
        return
    writer.write(head + content)
    if life.fate in ("leave_waiting", "leave_mid_stream"):
        events = 0 if life.fate == "leave_waiting" else life.number % 7 + 1
        try:
            async with asyncio.timeout(life.give_up_after if not events else 5):
                await _read(life, reader, events)
        except TimeoutError:
            pass
        if not life.complete:
            await _leave(life, reader, writer)
        return
    if life.fate == "slow_reader":
        await asyncio.sleep(0.3)
    await _read(life, reader, 0)


async def _leave(life: Life, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if life.how == "reset":
        plug: socket.socket = writer.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    life.closed_at = time.monotonic()
    if life.how == "half-close":
        writer.write_eof()
        await reader.read()
    elif life.how == "reset":
        writer.transport.abort()
    else:
        writer.close()


async def _read(life: Life, reader: asyncio.StreamReader, stop_after_events: int) -> None:
    """Reads a reply; up to some events only if asked."""
    head = await reader.readuntil(b"\r\n\r\n")
    life.status = int(head.split(b" ", 2)[1])
    fields = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:] if line)
    }
    if fields.get(b"transfer-encoding") == b"chunked":
        while True:
            size = int(await reader.readuntil(b"\r\n"), 16)
            data = await reader.readexactly(size + 2)
            life.reply += data[:size]
            if not size:
                life.complete = True
                return
            if stop_after_events and life.reply.count(b"\n\n") >= stop_after_events:
                return
    life.reply += await reader.readexactly(int(fields.get(b"content-length", b"0")))
    life.complete = True
