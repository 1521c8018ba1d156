"""Lines that say how far a command is, on standard error: standard output is for results."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["say", "still_at"]

_EVERY_SECONDS = 15


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def still_at(what: str, how_far: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Says every few seconds that `what` goes on, and how far it is; `how_far` is called from another thread."""
    began = time.monotonic()
    done = threading.Event()

    def tell() -> None:
        while not done.wait(_EVERY_SECONDS):
            say(f"  {what}: {time.monotonic() - began:.0f} s{how_far()}")

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()
