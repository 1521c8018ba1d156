"""`fairqueue-drain`, which a sidecar's preStop runs."""

import asyncio
import subprocess
import sys
from asyncio import StreamReader, StreamWriter

import pytest

from fairqueue_proxy import begin_drain
from fairqueue_sim import RunningEngine
from proxy.conftest import StartProxy

OWN = "import fairqueue_proxy.begin_drain, sys; print(*(name for name in sys.modules if 'fairqueue' in name))"
BARE = "import socket, sys; print(len(sys.modules))"
LOADED = "import fairqueue_proxy.begin_drain, sys; print(len(sys.modules))"


def printed(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


async def run(monkeypatch: pytest.MonkeyPatch, host: str, port: int) -> int:
    monkeypatch.setattr(begin_drain, "LOCAL", (host, port))
    return await asyncio.to_thread(begin_drain.main)


async def test_it_begins_a_drain(
    start_proxy: StartProxy, engine: RunningEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = await start_proxy(engine.port)
    assert stack.proxy is not None
    assert not stack.proxy.drain.begun.is_set()
    assert await run(monkeypatch, stack.local.host, stack.local.port) == 0
    assert stack.proxy.drain.begun.is_set()


async def test_without_a_proxy_it_says_so(
    unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run(monkeypatch, "127.0.0.1", unused_tcp_port) == 1
    assert "no proxy at 127.0.0.1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "reply", [b"HTTP/1.1 404 Not Found\r\n\r\n", b"hello\r\n", b""], ids=["404", "words", "nothing"]
)
async def test_what_is_no_proxy_is_told_from_one(
    reply: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def answer(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        assert await run(monkeypatch, *server.sockets[0].getsockname()) == 1
    assert "is no proxy" in capsys.readouterr().err


def test_it_loads_nothing_but_sockets() -> None:
    assert printed(OWN).split() == ["fairqueue_proxy", "fairqueue_proxy.begin_drain"]
    assert int(printed(LOADED)) == int(printed(BARE)) + 2
