"""One command at a time changes the node of this machine."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from one_node.progress import say

__all__ = ["only_one"]

# An abstract socket's name: the kernel frees it when its holder dies, and no file is left behind.
_NAME = "\0fairqueue-e2e"
_POLL_SECONDS = 0.2


@contextmanager
def only_one(name: str = _NAME) -> Iterator[None]:
    """Waits until no other command is at work."""
    with socket.socket(socket.AF_UNIX) as lock:
        told = False
        while True:
            try:
                lock.bind(name)
                break
            except OSError:
                if not told:
                    say("waiting for another command that works on the node")
                told = True
                time.sleep(_POLL_SECONDS)
        yield
