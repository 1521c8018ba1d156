"""Asking pods what they run on, over real sockets: what a proxy says, and what becomes of everything else."""

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fairqueue_operator.acknowledging import MOST_BYTES, Asking
from fairqueue_operator.planning.programming import Acknowledgement

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
REVISION = "0123456789ab" * 5 + "0123"


@asynccontextmanager
async def serving(answer: Answer, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """A pod that answers so after it has read a request; its port."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await answer(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, host, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def response(content: bytes, head: str = "200 OK", *headers: str) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {head}", f"Content-Length: {len(content)}", *headers, "", ""]
        writer.write("\r\n".join(lines).encode() + content)
        await writer.drain()

    return answer


def saying(**said: Any) -> Answer:
    return response(json.dumps(said).encode())


async def asked(answer: Answer, address: str = "127.0.0.1", **options: Any) -> Acknowledgement:
    async with serving(answer, address) as port, Asking(port, **options) as asking:
        return await asking.ask(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_a_proxy_says_what_it_runs_on(address: str) -> None:
    answer = saying(policy="team/chat", revision=REVISION, schemas=[1], problem=None)
    assert await asked(answer, address) == Acknowledgement("team/chat", REVISION, "")


async def test_a_proxy_may_run_on_nothing_yet() -> None:
    assert await asked(saying(policy=None, revision=None, schemas=[1], problem=None)) == Acknowledgement("", "", "")


async def test_a_problem_is_one_short_line() -> None:
    said = await asked(saying(policy="team/chat", revision=REVISION, problem="bad\ndocument: " + "x" * 5000))
    assert (said.policy, said.revision) == ("team/chat", REVISION)
    assert said.problem.startswith("bad document: x")
    assert len(said.problem) == 400


async def test_what_is_asked_for_is_plain() -> None:
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server, Asking(server.sockets[0].getsockname()[1]) as asking:
        await asking.ask("127.0.0.1")
    request = seen[0].decode().lower()
    assert request.startswith("get /-/config http/1.1\r\n")
    assert "accept-encoding: identity" in request
    assert "authorization" not in request


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def hang_half_way(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"rev')
    await reader.read()


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
    while True:
        writer.write(b"{")
        await writer.drain()
        await asyncio.sleep(0.02)


async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    pass


async def close_half_way(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"rev')
    await writer.drain()


async def never_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b" " * 65_536)
        await writer.drain()


async def never_end_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X: " + b"y" * 65_536)
        await writer.drain()


async def noise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(bytes(range(256)) * 4)
    await writer.drain()


NO_PROXY = "the answer is not that of a proxy"
LARGE = f"more than {MOST_BYTES} bytes"
GOOD = json.dumps({"policy": "a/b", "revision": "r", "problem": None}).encode()


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        pytest.param(hang, "no answer in time", id="hangs"),
        pytest.param(hang_half_way, "no answer in time", id="hangs half-way"),
        pytest.param(drip, "no answer in time", id="drips"),
        pytest.param(close, "", id="closes"),
        pytest.param(close_half_way, "", id="closes half-way"),
        pytest.param(noise, "", id="is no HTTP"),
        pytest.param(never_end_headers, "", id="has endless headers"),
        pytest.param(never_end, LARGE, id="is endless"),
        pytest.param(response(b" " * MOST_BYTES + GOOD), LARGE, id="is large"),
        pytest.param(response(GOOD, "302 Found", "Location: http://127.0.0.1:1/"), "answered 302", id="redirects"),
        pytest.param(response(GOOD, "503 Service Unavailable"), "answered 503", id="is unavailable"),
        pytest.param(response(gzip.compress(GOOD), "200 OK", "Content-Encoding: gzip"), NO_PROXY, id="is compressed"),
        pytest.param(response(b""), NO_PROXY, id="is empty"),
        pytest.param(response(b"\xff\xfe"), NO_PROXY, id="is no text"),
        pytest.param(response(b"<html>"), NO_PROXY, id="is HTML"),
        pytest.param(response(b"[" * 60_000), NO_PROXY, id="is deep"),
        pytest.param(response(b"[]"), NO_PROXY, id="is a list"),
        pytest.param(response(b"{}"), NO_PROXY, id="has no revision"),
        pytest.param(saying(revision=7), NO_PROXY, id="has a number for a revision"),
        pytest.param(saying(revision="r", policy=["a"]), NO_PROXY, id="has a list for a policy"),
        pytest.param(saying(revision="r", problem={"a": 1}), NO_PROXY, id="has an object for a problem"),
        pytest.param(saying(revision="r" * 401), NO_PROXY, id="has a long revision"),
    ],
)
async def test_anything_else_is_a_problem(answer: Answer, problem: str) -> None:
    said = await asked(answer, total_seconds=0.5)
    assert (said.policy, said.revision) == ("", "")
    assert said.problem.startswith("no answer at 127.0.0.1:")
    assert said.problem.endswith(problem)
    assert 30 < len(said.problem) < 500
    assert "\n" not in said.problem


async def test_a_large_answer_that_is_not_too_large_is_read() -> None:
    assert (await asked(response(b" " * (MOST_BYTES - len(GOOD)) + GOOD))).revision == "r"


async def test_nobody_there_is_a_problem() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        async with Asking(port) as asking:
            said = await asking.ask("127.0.0.1")
    assert said == Acknowledgement("", "", f"no answer at 127.0.0.1:{port}: connection refused", answered=False)


async def test_a_host_that_takes_no_connections_is_given_up_sooner() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.socket() as waiting:
            waiting.connect(full.getsockname())
            async with Asking(full.getsockname()[1], total_seconds=20) as asking, asyncio.timeout(10):
                said = await asking.ask("127.0.0.1")
    assert said.problem.endswith("no answer in time")


@pytest.mark.parametrize(
    "address", ["", "localhost", "example.org", "127.0.0.1:80", "127.1", "1/../x", "[::1]", "a\nb"]
)
async def test_what_is_no_address_is_not_looked_up(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(*_: Any, **__: Any) -> Any:
        raise AssertionError("looked up")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    async with serving(saying(revision="r")) as port, Asking(port) as asking:
        said = await asking.ask(address)
    assert said.revision == ""
    assert "does not appear to be" in said.problem
    assert "\n" not in said.problem


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert (await asked(saying(revision="r"))).revision == "r"
