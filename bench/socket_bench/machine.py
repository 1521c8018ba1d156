"""What the machine did meanwhile: CPU that others took, and how late the benchmark's own loop was."""

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from socket_bench.ratios import percentile

__all__ = ["Machine", "Watch"]

TICK_SECONDS = 0.02
MOST_STOLEN = 0.03
MOST_LATE_SECONDS = 0.02
MOST_BUSY = 0.95
_HERTZ = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Machine:
    """In a span: the share of all cores that the hypervisor kept, that all processes used, and that each of ours used
    of one core; and by how much the 99th of 100 timers of the clients' loop was late."""

    stolen: float
    busy: float
    cores: dict[str, float]
    late_seconds: float

    @property
    def trouble(self) -> str:
        """Why a figure of this span is to be doubted; empty if it is not."""
        reasons = []
        if self.stolen > MOST_STOLEN:
            reasons.append(f"{self.stolen:.0%} of the CPU was taken by other machines")
        if self.busy > MOST_BUSY:
            reasons.append(f"all cores were busy ({self.busy:.0%})")
        if self.late_seconds > MOST_LATE_SECONDS:
            reasons.append(f"the clients were {self.late_seconds * 1000:.0f} ms late")
        return ", ".join(reasons)


class Watch:
    """Watches from `start()` to `stop()`; `pids` are the processes by name."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = {**pids, "clients": os.getpid()}
        self._late: list[float] = []

    def start(self) -> None:
        self._all = _all_ticks()
        self._own = {name: _ticks(pid) for name, pid in self._pids.items()}
        self._loop = asyncio.get_running_loop()
        self._started_at = time.monotonic()
        self._expect()

    def stop(self) -> Machine:
        self._timer.cancel()
        seconds = time.monotonic() - self._started_at
        idle, stolen, total = (after - before for after, before in zip(_all_ticks(), self._all, strict=True))
        cores = {name: (_ticks(pid) - self._own[name]) / _HERTZ / seconds for name, pid in self._pids.items()}
        return Machine(
            stolen=stolen / max(total, 1),
            busy=1 - idle / max(total, 1),
            cores={name: round(share, 3) for name, share in cores.items()},
            late_seconds=percentile(self._late, 0.99),
        )

    def _expect(self) -> None:
        self._due = time.monotonic() + TICK_SECONDS
        self._timer = self._loop.call_later(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        self._late.append(time.monotonic() - self._due)
        self._expect()


def _all_ticks() -> tuple[int, int, int]:
    """Idle, stolen and all ticks of all cores since the start of the machine."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return ticks[3] + ticks[4], ticks[7], sum(ticks)


def _ticks(pid: int) -> int:
    # After the command's name, which may hold anything.
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(words[11]) + int(words[12])
