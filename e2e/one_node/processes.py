"""Processes of the node that outlive the command which started them.

A process is its pid and the time it started, so a pid that the kernel gave to someone else is never taken for ours.
Records are written as soon as a process is there. What has no record yet when the writer dies is no concern of this
module: `namespaces` sees to it that such a process ends by itself.
"""

import json
import os
import select
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from one_node.errors import NodeError

__all__ = [
    "Process",
    "Records",
    "child_of",
    "is_alive",
    "kill",
    "process_of",
    "running_from",
    "wait_for_end",
]

# Fields of /proc/PID/stat after the name, which is in parentheses and may itself hold spaces and parentheses.
_STATE, _START_TIME = 0, 19


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    started_ticks: int


def process_of(pid: int, proc: Path = Path("/proc")) -> Process | None:
    """None: there is none, or it has ended and was not collected yet."""
    found, has_ended = _look_up(pid, proc)
    return None if has_ended else found


def _look_up(pid: int, proc: Path = Path("/proc")) -> tuple[Process | None, bool]:
    """The process, and whether it has ended and only waits to be collected."""
    try:
        fields = (proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None, False
    return Process(pid, int(fields[_START_TIME])), fields[_STATE] in "ZX"


def is_alive(process: Process) -> bool:
    return process_of(process.pid) == process


def child_of(pid: int, timeout_seconds: float = 5) -> Process | None:
    """The first child of a process that is about to have one. None: it ended, or has none in time."""
    until = time.monotonic() + timeout_seconds
    while process_of(pid) is not None and time.monotonic() < until:
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        if children:
            return process_of(int(children[0]))
        time.sleep(0.005)
    return None


def running_from(folder: Path) -> list[Process]:
    """Who runs a program that lies in this folder, or did until it was deleted."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                program = Path(os.readlink(entry / "exe"))
            except OSError:
                continue
            if program.is_relative_to(folder) and (process := process_of(int(entry.name))):
                found.append(process)
    return found


def kill(process: Process) -> None:
    """Ends it at once and waits until it is gone, which for the first process of a PID namespace means: all of it."""
    _wait_for_end(process, signal.SIGKILL)


def wait_for_end(process: Process) -> None:
    """Also until it was collected, though not for long: that is up to the machine's first process."""
    _wait_for_end(process, None)
    until = time.monotonic() + 3
    while _look_up(process.pid)[0] == process and time.monotonic() < until:
        time.sleep(0.01)


def _wait_for_end(process: Process, to_send: signal.Signals | None, timeout_seconds: float = 30) -> None:
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        # The handle keeps meaning this one process; so it is looked at after the handle was taken.
        if not is_alive(process):
            return
        if to_send is not None:
            signal.pidfd_send_signal(handle, to_send)
        if not select.select([handle], [], [], timeout_seconds)[0]:
            raise NodeError(f"process {process.pid} does not end: see what holds it in /proc/{process.pid}/stack")
    finally:
        os.close(handle)


class Records:
    """The node's processes by name, in the order in which they were started."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> dict[str, Process]:
        try:
            found = json.loads(self._file.read_text())
        except FileNotFoundError:
            return {}
        return {name: Process(**it) for name, it in found.items()}

    def add(self, name: str, process: Process) -> None:
        whole = {key: asdict(it) for key, it in {**self.read(), name: process}.items()}
        draft = self._file.with_suffix(".partial")
        draft.write_text(json.dumps(whole, indent=1) + "\n")
        draft.replace(self._file)
