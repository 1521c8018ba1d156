"""Takes the node down and leaves nothing behind, whatever state it is in."""

import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from one_node.layout import INSIDE, Layout
from one_node.namespaces import HOLDER
from one_node.network import disconnect, is_connected
from one_node.processes import Records, kill, running_from, wait_for_end
from one_node.progress import say

__all__ = ["down", "is_anything_left"]

_CGROUPS = Path("/sys/fs/cgroup")
# containerd's group of pods' cgroups.
_PODS_GROUP = "k8s.io"


def is_anything_left(layout: Layout) -> bool:
    return layout.state.exists() or is_connected() or bool(running_from(INSIDE / "bin"))


def down(layout: Layout) -> None:
    if not is_anything_left(layout):
        say("the node is down")
        return
    began = time.monotonic()
    records = Records(layout.records).read()
    # The end of the process that holds the namespaces is the end of all that is in them.
    if HOLDER in records:
        kill(records[HOLDER])
    # For one whose record was deleted by hand.
    for stray in running_from(INSIDE / "bin"):
        kill(stray)
    for process in records.values():
        kill(process)
        wait_for_end(process)
    disconnect()
    _remove_cgroups(_containers(layout))
    if layout.state.exists():
        shutil.rmtree(layout.state)
    say(f"the node is down ({time.monotonic() - began:.1f} s)")


def _containers(layout: Layout) -> list[str]:
    plugin = layout.containerd / "io.containerd.grpc.v1.cri"
    return [it.name for kind in ("sandboxes", "containers") for it in plugin.glob(f"{kind}/*")]


def _remove_cgroups(containers: Iterable[str]) -> None:
    """What is left of killed containers: no process is in them any more."""
    ours = set(containers)
    # A hierarchy for each controller, or one for all.
    for group in [*_CGROUPS.glob(f"*/{_PODS_GROUP}"), *_CGROUPS.glob(_PODS_GROUP)]:
        for cgroup in group.iterdir():
            if cgroup.name in ours:
                _remove_tree(cgroup)
        # Another containerd of this machine makes it anew when it needs it.
        if not any(it.is_dir() for it in group.iterdir()):
            group.rmdir()


def _remove_tree(cgroup: Path) -> None:
    for inner in cgroup.iterdir():
        if inner.is_dir():
            _remove_tree(inner)
    cgroup.rmdir()
