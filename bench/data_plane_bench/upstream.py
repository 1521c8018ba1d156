"""The engine's stand-in: streams that say what they are told to, as fast as they are told to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from data_plane_bench.children import running_child
from socket_bench.children import Child, ChildError

__all__ = ["Mode", "Upstream", "UpstreamStats", "running_upstream"]

Mode = Literal["paced", "burst"]
PATIENCE_SECONDS = 10.0


class UpstreamStats(msgspec.Struct, frozen=True):
    """`streams` that are open now, everything else since the start. `missed` events were not sent since the upstream
    itself was late, `skipped` ones since a connection took no more."""

    streams: int
    requests: int
    events: int
    skipped: int
    missed: int


class _Ready(msgspec.Struct, frozen=True):
    port: int
    control: int


@dataclass(frozen=True, slots=True)
class Upstream:
    """Told what to do by lines on its control port."""

    child: Child
    port: int
    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter

    async def set(self, mode: Mode, events_per_second: float) -> None:
        """Of each stream."""
        await self._told(f"mode {mode}")
        await self._told(f"rate {events_per_second:.6f}")

    async def stats(self) -> UpstreamStats:
        return msgspec.json.decode(await self._ask("stats"), type=UpstreamStats)

    async def _told(self, line: str) -> None:
        answer = await self._ask(line)
        if answer != b"ok":
            raise ChildError(f"the upstream does not take `{line}`: {answer.decode(errors='replace')}")

    async def _ask(self, line: str) -> bytes:
        self._writer.write(line.encode() + b"\n")
        async with asyncio.timeout(PATIENCE_SECONDS):
            answer = await self._reader.readline()
        self.child.check()
        return answer.strip()


@asynccontextmanager
async def running_upstream(program: Path, core: int, folder: Path) -> AsyncIterator[Upstream]:
    """Ready, with streams that stand still."""
    command = [str(program), "--port", "0", "--control", "0"]
    async with running_child("the upstream", command, core, folder / "upstream.log", talks=True) as child:
        assert child.process.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            line = await child.process.stdout.readline()
        if not line.startswith(b"ready "):
            await child.process.wait()
            child.check()
        ready = msgspec.json.decode(line.removeprefix(b"ready "), type=_Ready)
        reader, writer = await asyncio.open_connection("127.0.0.1", ready.control)
        try:
            yield Upstream(child, ready.port, reader, writer)
        finally:
            writer.close()
