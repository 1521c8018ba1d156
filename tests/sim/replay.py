"""Replays recorded requests against a simulated engine on a real socket and takes the replies apart."""

import asyncio
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent.parent / "data"
# What the recordings' router was started with, and what its stub of a model said.
RECORDED: dict[str, Any] = {"model_id": "tiny-model", "output_style": "numbered"}

TIMES = ("date", "x-compute-time", "x-total-time", "x-queue-time", "x-inference-time", "x-time-per-token")
OTHERWISE_CUT = ("[[", 'hi"', '"hello')
PROMPT_COUNTS = re.compile(r'"(prompt_tokens|total_tokens|input_length)":\d+')
LEFT_OUT = re.compile(r"\.\.\. (\d+) chunks left out \.\.\.")


@dataclass(frozen=True)
class Reply:
    """A reply as it came; `chunks` are the payloads of the HTTP chunks, or the body as the only one."""

    status: int
    headers: list[tuple[str, str]]
    chunks: list[str]

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)


def recording(case: str, engine: str = "tgi") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / engine / f"{case}.json").read_text())
    return found


def request_bytes(request: dict[str, Any], port: int) -> bytes:
    """The bytes of a recorded request, sent to another port. Some recordings leave the usual headers out."""
    if "raw" in request:
        return str(request["raw"]).encode()
    body = (request["body"] or "").encode()
    usual = [["host", "127.0.0.1:PORT"], ["content-type", "application/json"], ["content-length", str(len(body))]]
    lines = [f"{request['method']} {request['path']} HTTP/1.1"]
    lines += [f"{name}: {value.replace('PORT', str(port))}" for name, value in request.get("headers", usual)]
    return "\r\n".join([*lines, "", ""]).encode() + body


def post(path: str, body: str | dict[str, Any], *headers: str) -> bytes:
    """The bytes of a POST with a JSON body."""
    data = (body if isinstance(body, str) else json.dumps(body)).encode()
    lines = [f"POST {path} HTTP/1.1", "host: x", "content-type: application/json", f"content-length: {len(data)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + data


def get(path: str) -> bytes:
    """The bytes of a GET."""
    return f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode()


class Connection:
    """A client's connection, with no HTTP library between."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, port: int) -> "Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> tuple[int, list[tuple[str, str]]]:
        first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().rstrip("\r\n").split("\r\n")
        names_and_values = [line.partition(": ") for line in lines]
        return int(first.split()[1]), [(name, value) for name, _, value in names_and_values]

    async def chunk(self) -> str:
        """The payload of the next HTTP chunk, empty for the last; the size must be in upper-case hexadecimal."""
        line = (await self.reader.readuntil(b"\r\n"))[:-2].decode()
        size = int(line, 16)
        assert line == f"{size:X}"
        data = await self.reader.readexactly(size + 2)
        assert data.endswith(b"\r\n")
        return data[:-2].decode()

    async def chunk_after_head(self) -> str:
        """Reads the head, which must be there, and the first chunk."""
        await self.head()
        return await self.chunk()

    async def reply(self, *, method: str = "POST") -> Reply:
        """Reads one reply, however it is framed."""
        status, headers = await self.head()
        fields = dict(headers)
        if method == "HEAD" or status == 100:
            return Reply(status, headers, [])
        if fields.get("transfer-encoding") == "chunked":
            chunks: list[str] = []
            while chunk := await self.chunk():
                chunks.append(chunk)
            return Reply(status, headers, chunks)
        if "content-length" in fields:
            body = await self.reader.readexactly(int(fields["content-length"]))
            return Reply(status, headers, [body.decode()] if body else [])
        events = (await self.reader.read()).decode().split("\n\n")
        return Reply(status, headers, [event + "\n\n" for event in events if event])

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


async def exchange(port: int, data: bytes, *, method: str = "POST") -> Reply:
    """One request on a connection of its own."""
    connection = await Connection.to(port)
    try:
        await connection.send(data)
        return await connection.reply(method=method)
    finally:
        await connection.close()


def recorded_reply(response: dict[str, Any]) -> Reply:
    """The recorded reply in the same form."""
    headers = [(name, value) for name, value in response["headers"]]
    return Reply(response["status"], headers, [text for _, text in response["chunks"]])


def normalised(reply: Reply, request: str) -> Reply:
    """A reply without what two runs cannot have in common. The whole list of what that is:

    - times: the date and the timing headers, and `created`;
    - seeds that the request did not give, and the ids of prompt tokens;
    - the words of the engine's failure;
    - how many tokens a prompt has, if the recordings' tokenizer cuts it in other places (`OTHERWISE_CUT`);
    - the length of a body, which follows from these, and which reading it has proved.
    """
    otherwise_cut = any(words in request for words in OTHERWISE_CUT)
    ignored = {*TIMES, "content-length", *(["x-prompt-tokens"] if otherwise_cut else [])}
    headers = [(name, "*" if name in ignored else value) for name, value in reply.headers]
    return Reply(reply.status, headers, [_normalised_text(text, request, otherwise_cut) for text in reply.chunks])


def _normalised_text(text: str, request: str, otherwise_cut: bool) -> str:
    text = re.sub(r'"created":[1-9]\d+', '"created":0', text)
    text = text.replace("stub failure", "simulated failure")
    if '"seed"' not in request or '"seed": null' in request:
        text = re.sub(r'"seed":\d+', '"seed":0', text)
    text = re.sub(r'\{"id":\d+(,"text":"[^"]*"(,"start"|,"logprob":(null|-1\.5)\}))', r'{"id":0\1', text)
    return PROMPT_COUNTS.sub(r'"\1":0', text) if otherwise_cut else text


def assert_same_chunks(got: list[str], recorded: list[str]) -> None:
    """Compares chunks; where the recording leaves some out, only their number is known."""
    expected: list[str] = []
    for text in recorded:
        if left_out := LEFT_OUT.fullmatch(text):
            expected += got[len(expected) : len(expected) + int(left_out[1])]
        else:
            expected.append(text)
    assert got == expected
