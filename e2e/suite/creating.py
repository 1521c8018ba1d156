"""Pods asked for one after the other without being made: what admission says, all the while."""

import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from suite.kubectl import Kubectl, as_list


@dataclass(slots=True)
class Admissions:
    """How many were admitted, and what the others were told, by when (monotonic seconds)."""

    admitted: list[float] = field(default_factory=list)
    refused: list[tuple[float, str]] = field(default_factory=list)


@contextmanager
def admissions(kubectl: Kubectl, pod: Mapping[str, Any], *, every: float = 0.1) -> Iterator[Admissions]:
    """Asks for the pod by a server-side dry run, again and again, for as long as the block."""
    found, over = Admissions(), threading.Event()
    command = kubectl.command("create", "--dry-run=server", "--validate=false", "-f", "-")

    def ask() -> None:
        while not over.wait(every):
            done = subprocess.run(command, input=as_list([pod]), capture_output=True, text=True, check=False)
            if done.returncode:
                found.refused.append((time.monotonic(), done.stderr.strip()))
            else:
                found.admitted.append(time.monotonic())

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
