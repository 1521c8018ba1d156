"""What processes use: CPU time and memory of a process and all that it has started, from /proc."""

import contextlib
from pathlib import Path

__all__ = ["descendants", "memory_bytes", "run_seconds", "tree_run_seconds"]


def descendants(pid: int) -> list[int]:
    """The process and all below it that run now."""
    found = [pid]
    for each in found:
        # One that ends meanwhile has no children left.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f"/proc/{each}/task").iterdir():
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    found += [int(word) for word in (task / "children").read_text().split()]
    return found


def run_seconds(pid: int) -> float:
    """CPU time of a process's threads that run now, by the scheduler's own count: exact to the nanosecond."""
    nanoseconds = 0
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                nanoseconds += int((task / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9


def tree_run_seconds(pid: int) -> float:
    """The same of the process and all below it."""
    return sum(run_seconds(each) for each in descendants(pid))


def memory_bytes(pid: int) -> int:
    """What the process and all below it take: each its share of what is shared (PSS), or all of it where that can't be
    read (RSS)."""
    return sum(_memory_of(each) for each in descendants(pid))


def _memory_of(pid: int) -> int:
    for name, field in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/{name}").read_text().splitlines():
                if line.startswith(field):
                    return int(line.split()[1]) * 1024
    return 0
