"""Waiting for the node's parts, and saying from the right log why one does not come."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from one_node.errors import NodeError
from one_node.processes import Process, is_alive

__all__ = ["Watched", "last_lines", "until"]

_POLL_SECONDS = 0.05

# Processes whose end ends the waiting, by name, with their logs.
Watched = Mapping[str, tuple[Process, Path]]


def until(condition: Callable[[], bool], what: str, watched: Watched, timeout_seconds: float) -> None:
    end = time.monotonic() + timeout_seconds
    while not condition():
        for name, (process, log) in watched.items():
            if not is_alive(process):
                raise NodeError(f"{name} has ended; its log says why: {log}{last_lines(log)}")
        if time.monotonic() > end:
            logs = "".join(f"\n{name}: {log}{last_lines(log)}" for name, (_, log) in watched.items())
            raise NodeError(f"no sign of {what} within {timeout_seconds:.0f} s; the last lines of the logs:{logs}")
        time.sleep(_POLL_SECONDS)


def last_lines(log: Path, number: int = 12) -> str:
    """The end of a log, quoted, to be added to a message."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-number:]
    except FileNotFoundError:
        return ""
    return "".join(f"\n  | {line}" for line in lines)
