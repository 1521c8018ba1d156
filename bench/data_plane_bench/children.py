"""Starts and ends what runs: proxies, the upstream and the load, each a process that is pinned to a core.

As in the other benchmark: sessions of their own, ended by pid, and they end by themselves when the benchmark dies.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from socket_bench.children import Child, end

__all__ = ["Cores", "running_child"]

LAUNCH = Path(__file__).parent / "launch.py"
LONGEST_LINE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Cores:
    """Where what is measured runs, and where all else does."""

    proxy: int
    tools: int

    @classmethod
    def allowed(cls) -> "Cores":
        """The first two that this process may use; on a machine with one core both are that."""
        first, *others = sorted(os.sched_getaffinity(0))
        return cls(first, others[0] if others else first)

    @property
    def all(self) -> set[int]:
        return {self.proxy, self.tools}


@asynccontextmanager
async def running_child(
    name: str,
    command: Sequence[str],
    core: int,
    log: Path,
    *,
    talks: bool = False,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Child]:
    """What it prints goes into the log; of one that talks, standard input and output are pipes."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", str(LAUNCH), str(os.getpid()), str(core), *command),
            stdin=asyncio.subprocess.PIPE if talks else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if talks else output,
            stderr=output,
            start_new_session=True,
            limit=LONGEST_LINE_BYTES,
            env={**os.environ, **(environment or {})},
        )
    try:
        yield Child(name, process, log)
    finally:
        await end(process)
