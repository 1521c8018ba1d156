"""Runs a command that ends when the process that started it ends, however that ends.

`python -m fairqueue_cli.demo_child COMMAND ARGUMENTS…` asks the kernel for a signal at the parent's death, then turns
into the command (the request survives `execve`, prctl(2)). Linux only; elsewhere the command just runs.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """SIGTERM for this process when `parent`, its own parent, is gone; at once if it is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit(1)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
