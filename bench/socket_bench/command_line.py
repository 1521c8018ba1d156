"""What the commands of all benchmarks share: numbers among their options, and lines on how far they are."""

import argparse
import sys
from collections.abc import Callable

__all__ = ["at_least", "say"]


def at_least(least: int) -> Callable[[str], int]:
    """For argparse: a whole number that is not less."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text}: must be a whole number, {least} or more")
        return int(text)

    return number


def say(text: str) -> None:
    """A line on standard error, at once."""
    print(text, file=sys.stderr, flush=True)
