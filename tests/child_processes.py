"""Processes that a command has started: which there are, and whether they still run."""

import asyncio
import signal
from pathlib import Path

PATIENCE_SECONDS = 60


def children_of(pid: int) -> list[int]:
    """Those that its main thread has started."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def runs(pid: int) -> bool:
    """There is such a process, and it has not ended: whoever takes it over then may be slow to notice."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    # After the name, which may have anything in it.
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


async def interrupted(process: asyncio.subprocess.Process, children: int) -> tuple[bytes, list[int]]:
    """Sends Ctrl-C once the command has so many children; its exit code must be 130. What it says from then on, and
    the children."""
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(started := children_of(process.pid)) < children:
            await asyncio.sleep(0.05)
        process.send_signal(signal.SIGINT)
        rest = await process.stderr.read()
        assert await process.wait() == 130
    return rest, started
