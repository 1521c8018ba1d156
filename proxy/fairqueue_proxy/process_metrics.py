"""What /metrics says of the proxy's own process, by the names that Prometheus' client libraries have for it.

Where there is no /proc, only what Python itself knows is there."""

import os
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from fairqueue_proxy.metric_families import Family, Kind

CPU_SECONDS: Final = Family(
    "process_cpu_seconds_total", Kind.COUNTER, "CPU time of the proxy's process, user and system."
)
START_TIME: Final = Family(
    "process_start_time_seconds", Kind.GAUGE, "When the proxy's process started, in seconds since 1970."
)
RESIDENT_MEMORY: Final = Family(
    "process_resident_memory_bytes", Kind.GAUGE, "Memory of the proxy's process that is in RAM."
)
OPEN_FDS: Final = Family(
    "process_open_fds", Kind.GAUGE, "Open file descriptors: each connection of a client or to the engine is one."
)

PROCESS_FAMILIES: Final = (CPU_SECONDS, START_TIME, RESIDENT_MEMORY, OPEN_FDS)

_SELF: Final = Path("/proc/self")
# Where fields stand in /proc/self/stat after the name, which may have blanks in it (proc_pid_stat(5), less 3).
_START_FIELD: Final = 19


def process_parts(folder: Path = _SELF) -> Iterator[str]:
    """The text of one scrape in parts that take microseconds to make. Some are empty."""
    yield _sample(CPU_SECONDS, time.process_time())
    try:
        yield _sample(START_TIME, _started_at(folder))
        pages = int((folder / "statm").read_text().split()[1])
        yield _sample(RESIDENT_MEMORY, pages * os.sysconf("SC_PAGE_SIZE"))
        count = (folder / "fd").stat().st_size
        if not count:
            # Before Linux 6.2 they must be counted, and thousands of streams take milliseconds.
            with os.scandir(folder / "fd") as found:
                for count, _ in enumerate(found, 1):  # noqa: B007
                    yield ""
        yield _sample(OPEN_FDS, count)
    except OSError:
        # Not Linux, or no descriptor is left to read with: the rest of the page is worth more.
        return


def _sample(family: Family, value: float) -> str:
    return f"{family.head}{family.name} {value:.15g}\n"


@cache
def _started_at(folder: Path) -> float:
    """Asked once: it must not move when somebody sets the clock."""
    ticks = int((folder / "stat").read_text().rpartition(")")[2].split()[_START_FIELD])
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")
