"""Where the node keeps what: the state folder, which lives as long as the node, and the cache, which outlives it.

Inside the node the state folder is `INSIDE`, and the node's own /var/lib and /var/log are folders of it, so what runs
there is told default or short paths, however long the state folder's own path is.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from one_node.errors import NodeError

__all__ = ["INSIDE", "Layout"]

INSIDE = Path("/run/node")


@dataclass(frozen=True, slots=True)
class Layout:
    state: Path
    cache: Path

    @staticmethod
    def of_this_machine() -> "Layout":
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        state = Path(os.environ.get("FAIRQUEUE_E2E_DIR") or "/var/lib/fairqueue-e2e")
        if state.absolute().is_relative_to(INSIDE.parent):
            raise NodeError(f"FAIRQUEUE_E2E_DIR must not be in {INSIDE.parent}, of which the node has its own")
        return Layout(state.absolute(), cache.absolute() / "fairqueue")

    @property
    def records(self) -> Path:
        return self.state / "processes.json"

    @property
    def certificates(self) -> Path:
        return self.state / "pki"

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def containerd(self) -> Path:
        """What containerd keeps: /var/lib/containerd inside the node."""
        return self.state / "var" / "lib" / "containerd"

    def config(self, name: str) -> Path:
        return self.state / "config" / name

    def program(self, name: str) -> Path:
        return self.state / "bin" / name

    def log(self, name: str) -> Path:
        return self.state / "log" / f"{name}.log"
