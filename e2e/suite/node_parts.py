"""Parts of the node that comes with the repository, ended and started again. Other clusters are not ours to break."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from one_node.layout import Layout
from suite.kubectl import Json

PYTHON_PATH = str(Path(__file__).resolve().parents[1])


def is_our_own_node() -> bool:
    """The tests run on the node that comes with the repository."""
    return os.environ.get("KUBECONFIG") == str(Layout.of_this_machine().kubeconfig)


def only_on_our_own_node() -> None:
    """Skips the test on any other cluster."""
    if not is_our_own_node():
        pytest.skip("parts of a cluster are ended on the node that comes with the repository only")


def end(part: str) -> None:
    """Kills it."""
    _one_node("stop", part)


def start(part: str) -> None:
    """Starts it, if it does not run."""
    _one_node("start", part)


@contextmanager
def without(part: str) -> Iterator[None]:
    """It is down for as long as the block."""
    end(part)
    try:
        yield
    finally:
        start(part)


@contextmanager
def paused(pod: Json, container: str) -> Iterator[None]:
    """The container's processes stand still for as long as the block, as on a machine that does."""
    pids = _pids(pod, container)
    assert pids
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def kill_container(pod: Json, container: str) -> None:
    """Ends all its processes, in the middle of whatever they do."""
    for pid in _pids(pod, container):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _pids(pod: Json, container: str) -> list[int]:
    """On this machine; its cgroup has the container's name."""
    statuses = pod["status"]["containerStatuses"] + pod["status"].get("initContainerStatuses", [])
    name = next(it["containerID"] for it in statuses if it["name"] == container).rpartition("/")[2]
    found = []
    for group in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            if name in group.read_text():
                found.append(int(group.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _one_node(*arguments: str) -> None:
    # A process of its own: what it starts is to outlive us.
    command = [sys.executable, "-m", "one_node", *arguments]
    environment = {**os.environ, "PYTHONPATH": PYTHON_PATH}
    subprocess.run(command, env=environment, check=True, stdin=subprocess.DEVNULL, timeout=120)
