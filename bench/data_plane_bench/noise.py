"""What else the machine did while something was measured, and which of several tries is believed.

CPU time of the cores in use that neither the benchmark nor anything that it started has used is foreign; what the
hypervisor kept for others is stolen. Either makes every figure worse, so a try under
much of it is repeated.
"""

import contextlib
import gzip
import os
import time
from collections.abc import Awaitable, Callable, Collection
from functools import cache
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from data_plane_bench.processes import descendants, run_seconds

__all__ = ["MOST_FOREIGN", "MOST_TRIES", "Noise", "NoiseWatch", "least_noisy", "tried"]

MOST_FOREIGN = 0.08
MOST_TRIES = 3
_APART = b"CONFIG_IRQ_TIME_ACCOUNTING=y"
_HERTZ = os.sysconf("SC_CLK_TCK")


class Noise(msgspec.Struct, frozen=True):
    """Shares of the cores in use."""

    foreign: float = 0.0
    stolen: float = 0.0

    @property
    def share(self) -> float:
        return self.foreign + self.stolen

    @property
    def is_too_much(self) -> bool:
        return self.share > MOST_FOREIGN


class _Noisy(Protocol):
    @property
    def noise(self) -> Noise: ...


_Try = TypeVar("_Try", bound=_Noisy)


class NoiseWatch:
    """Watches from when it is made; knows only what still runs when it is read."""

    def __init__(self, cores: Collection[int]) -> None:
        self._cores = cores
        self._own_seconds = {pid: run_seconds(pid) for pid in descendants(os.getpid())}
        self._then = _idle_and_stolen_seconds(cores)
        self._began = time.monotonic()

    def read(self) -> Noise:
        """Since the beginning."""
        core_seconds = (time.monotonic() - self._began) * len(self._cores)
        now = _idle_and_stolen_seconds(self._cores)
        idle, stolen = now[0] - self._then[0], now[1] - self._then[1]
        own = sum(run_seconds(pid) - self._own_seconds.get(pid, 0.0) for pid in descendants(os.getpid()))
        # Idle time is exact; what is busy with what is only sampled.
        foreign = max(core_seconds - idle - stolen - own, 0.0)
        return Noise(round(foreign / core_seconds, 4), round(stolen / core_seconds, 4))


async def tried(measure: Callable[[], Awaitable[_Try]]) -> list[_Try]:
    """Once, and again as long as it was too noisy, but not for ever."""
    tries = [await measure()]
    while tries[-1].noise.is_too_much and len(tries) < MOST_TRIES:
        tries.append(await measure())
    return tries


def least_noisy(tries: list[_Try]) -> _Try:
    """The one to believe: chosen by its noise, never by its result."""
    return min(tries, key=lambda it: it.noise.share)


def _idle_and_stolen_seconds(cores: Collection[int]) -> tuple[float, float]:
    """Since the start of the machine; time in interrupts counts as idle where it is no process's."""
    idle = stolen = 0
    names = {f"cpu{core}" for core in cores}
    for line in Path("/proc/stat").read_text().splitlines():
        name, *words = line.split()
        if name in names:
            ticks = [int(word) for word in words]
            idle += sum(ticks[3:7]) if _interrupts_are_apart() else sum(ticks[3:5])
            stolen += ticks[7]
    return idle / _HERTZ, stolen / _HERTZ


@cache
def _interrupts_are_apart() -> bool:
    """Whether the kernel takes interrupts out of the run time of the processes that they came upon."""
    with contextlib.suppress(OSError):
        return _APART in gzip.decompress(Path("/proc/config.gz").read_bytes())
    with contextlib.suppress(OSError):
        return _APART in Path(f"/boot/config-{os.uname().release}").read_bytes()
    return True
