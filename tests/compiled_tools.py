"""The compiled tools of the data-plane bench as children, and connections that see each byte."""

import json
import re
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 30


class Connection:
    """A client's, with what has come and was not taken."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.bytes = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def post(self, path: str, body: bytes = b"{}", headers: bytes = b"") -> None:
        length = b"Content-Length: %d\r\n" % len(body)
        self.send(b"POST " + path.encode() + b" HTTP/1.1\r\nHost: x\r\n" + headers + length + b"\r\n" + body)

    def get(self, path: str) -> None:
        self.send(b"GET " + path.encode() + b" HTTP/1.1\r\nHost: x\r\n\r\n")

    def _more(self) -> bool:
        data = self.socket.recv(65536)
        self.bytes += data
        return bool(data)

    def take(self, length: int) -> bytes:
        while len(self.bytes) < length:
            assert self._more(), f"closed after {self.bytes!r}"
        taken, self.bytes = self.bytes[:length], self.bytes[length:]
        return taken

    def take_to(self, mark: bytes) -> bytes:
        while mark not in self.bytes:
            assert self._more(), f"closed after {self.bytes!r}"
        return self.take(self.bytes.index(mark) + len(mark))

    def chunk(self) -> bytes:
        size = int(self.take_to(b"\r\n"), 16)
        data = self.take(size)
        assert self.take(2) == b"\r\n"
        return data

    def chunks_to_end(self) -> list[bytes]:
        return list(iter(self.chunk, b""))

    def reply(self) -> tuple[bytes, bytes]:
        head = self.take_to(b"\r\n\r\n")
        length = re.search(rb"\r\nContent-Length: (\d+)\r\n", head)
        assert length is not None, head
        return head, self.take(int(length[1]))

    def is_silent(self) -> bool:
        """Nothing has come that was not taken; a moment is waited for it."""
        return not self.bytes and not select.select([self.socket], [], [], 0.1)[0]

    def at_end(self) -> bool:
        return not self.bytes and not self._more()


@contextmanager
def connected(port: int) -> Iterator[Connection]:
    connection = Connection(port)
    try:
        yield connection
    finally:
        connection.socket.close()


@dataclass
class Upstream:
    """The running server, with a connection to its control port."""

    process: subprocess.Popen[str]
    port: int
    control: Connection

    def say(self, line: str) -> str:
        self.control.send(line.encode() + b"\n")
        return self.control.take_to(b"\n").decode().rstrip()

    def stats(self) -> dict[str, Any]:
        return dict(json.loads(self.say("stats")))

    def wait_for(self, **values: int) -> None:
        """Until the statistics are these."""
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            stats = self.stats()
            if all(stats[name] == value for name, value in values.items()):
                return
            time.sleep(0.002)
        raise AssertionError(f"{stats} instead of {values}")


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line it prints."""
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], PATIENCE_SECONDS)[0], "nothing is printed"
    return process.stdout.readline()


@contextmanager
def child(*command: str | Path) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


@contextmanager
def running_upstream(tools: Path, *options: str) -> Iterator[Upstream]:
    with child(tools / "upstream", "--port", "0", "--control", "0", *options) as process:
        word, _, ports = line_of(process).partition(" ")
        assert word == "ready"
        with connected(json.loads(ports)["control"]) as control:
            yield Upstream(process, json.loads(ports)["port"], control)
        process.send_signal(signal.SIGTERM)
        _, complaints = process.communicate(timeout=PATIENCE_SECONDS)
        assert (process.returncode, complaints) == (128 + signal.SIGTERM, "")


@dataclass
class Load:
    """How to start the load: with a body, and headers if there are any."""

    tools: Path
    folder: Path
    body: bytes = b'{"inputs":"x"}'
    headers: list[str] = field(default_factory=list)

    def command(self, port: int, *options: str, path: str = "/generate_stream") -> list[str | Path]:
        body, headers = self.folder / "body.json", self.folder / "headers.txt"
        body.write_bytes(self.body)
        headers.write_text("\n".join(self.headers) + "\n")
        given: list[str | Path] = ["--headers", headers] if self.headers else []
        return [self.tools / "load", "--port", str(port), "--path", path, "--body", body, *given, *options]

    def run(self, port: int, *options: str, path: str = "/generate") -> "subprocess.CompletedProcess[str]":
        command = self.command(port, *options, path=path)
        return subprocess.run(
            command, stdin=subprocess.PIPE, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )

    def short(self, port: int, *options: str, path: str = "/generate") -> dict[str, Any]:
        done = self.run(port, "--short", *options, path=path)
        assert (done.returncode, done.stderr) == (0, "")
        return dict(json.loads(done.stdout))


@dataclass
class Streams:
    """A load that holds streams."""

    process: subprocess.Popen[str]
    ready: dict[str, Any]

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def stop(self) -> dict[str, Any]:
        self.tell("stop")
        return dict(json.loads(line_of(self.process)))

    def seen(self, enough: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """What is measured, once it is enough."""
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            seen = self.stop()
            if enough(seen):
                return seen
            time.sleep(0.01)
        raise AssertionError(f"it stays at {seen}")

    def quit(self) -> str:
        """Ends it; returns what it complained of."""
        _, complaints = self.process.communicate("quit\n", timeout=PATIENCE_SECONDS)
        assert self.process.returncode == 0
        return complaints


@contextmanager
def holding(load: Load, port: int, *options: str, path: str = "/generate_stream") -> Iterator[Streams]:
    with child(*load.command(port, *options, path=path)) as process:
        word, _, ready = line_of(process).partition(" ")
        assert word == "ready"
        yield Streams(process, json.loads(ready))


Serve = Callable[[socket.socket], None]


@contextmanager
def serving(serve: Serve) -> Iterator[int]:
    """A server of any behaviour: its port. `serve` has each connection in turn, closed when it returns."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(PATIENCE_SECONDS)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                serve(connection)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        # Wakes the thread, which closing alone does not.
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(PATIENCE_SECONDS)


def read_request(connection: socket.socket) -> bytes:
    """Head and body of the next request; empty at the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    assert length is not None
    while len(body) < int(length[1]):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def event(text: str = "") -> bytes:
    return b'data: {"a": " t%019d%b"}\n\n' % (time.monotonic_ns(), text.encode())


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
