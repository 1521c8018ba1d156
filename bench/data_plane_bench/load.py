"""The clients: so many streams that are held open and measured in spans, or short requests one after the other."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from data_plane_bench.children import running_child
from socket_bench.children import Child, ChildError

__all__ = ["Held", "Latency", "Load", "Reading", "ShortReading", "Streams"]

RAMP_PATIENCE_SECONDS = 60
PATIENCE_SECONDS = 30.0


class Latency(msgspec.Struct, frozen=True):
    """In microseconds."""

    p50: float
    p99: float
    max: float


class Held(msgspec.Struct, frozen=True):
    """How the streams were opened."""

    held: int
    refused: int
    seconds: float


class Reading(msgspec.Struct, frozen=True):
    """One span. `event_reads` are the reads with which at least one event was whole."""

    seconds: float
    events: int
    event_reads: int
    bytes: int
    broken: int
    open: int
    latency_us: Latency | None

    @property
    def per_second(self) -> float:
        return self.events / self.seconds

    @property
    def events_per_read(self) -> float:
        """Above 1: events that were sent one by one came together."""
        return self.events / max(self.event_reads, 1)


class ShortReading(msgspec.Struct, frozen=True):
    """Of requests that were answered in full with 200, and those that were not."""

    requests: int
    failures: int
    seconds: float
    latency_us: Latency | None

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


@dataclass(frozen=True, slots=True)
class Streams:
    """Open streams; events are counted between `start` and `stop`."""

    child: Child
    held: Held

    def start(self) -> None:
        self._say("start")

    async def stop(self) -> Reading:
        self._say("stop")
        return msgspec.json.decode(await _line(self.child, PATIENCE_SECONDS), type=Reading)

    def quit(self) -> None:
        """Closes all at one instant."""
        self._say("quit")

    def _say(self, word: str) -> None:
        assert self.child.process.stdin is not None
        self.child.process.stdin.write(word.encode() + b"\n")


@dataclass(frozen=True, slots=True)
class Load:
    """Where requests go, and what they are: files with a body, and with a header for each identity."""

    program: Path
    core: int
    port: int
    folder: Path
    identities: Path

    @asynccontextmanager
    async def streams(self, path: str, body: bytes, count: int) -> AsyncIterator[Streams]:
        """All that could be opened."""
        command = [*self._to(path, body), "--streams", str(count), "--patience", str(RAMP_PATIENCE_SECONDS)]
        async with running_child("the load", command, self.core, self.folder / "load.log", talks=True) as child:
            # Each stream that opens begins the patience anew: a bound for one that hangs itself.
            line = await _line(child, 5 * RAMP_PATIENCE_SECONDS)
            yield Streams(child, msgspec.json.decode(line.removeprefix(b"ready "), type=Held))

    async def short(self, path: str, body: bytes, connections: int, options: Sequence[str]) -> ShortReading:
        """Requests until the options say that it is enough."""
        command = [*self._to(path, body), "--short", "--connections", str(connections), *options]
        async with running_child("the load", command, self.core, self.folder / "load.log", talks=True) as child:
            return msgspec.json.decode(await _line(child, None), type=ShortReading)

    def _to(self, path: str, body: bytes) -> list[str]:
        file = self.folder / "body.json"
        file.write_bytes(body)
        to = ["--port", str(self.port), "--path", path, "--body", str(file), "--headers", str(self.identities)]
        return [str(self.program), *to]


async def _line(child: Child, seconds: float | None) -> bytes:
    assert child.process.stdout is not None
    async with asyncio.timeout(seconds):
        line = await child.process.stdout.readline()
    if not line:
        await child.process.wait()
        child.check()
        raise ChildError(f"{child.name} ended without a word: see {child.log}")
    return line
