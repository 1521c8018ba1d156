"""`python -m fairqueue_operator injector`: finds what is to run, and loads nothing else."""

import argparse
import asyncio
import os
import sys
from collections.abc import Coroutine, Sequence
from typing import Any, NoReturn

from . import injector_options, log_lines

_INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see `{self.prog} --help`)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code (2: bad input)."""
    parser = _Parser(prog="python -m fairqueue_operator", description="What fairqueue does on Kubernetes.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    injector = commands.add_parser(
        "injector",
        help="run the admission webhook that puts the proxy into pods",
        description=injector_options.HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    injector_options.add_arguments(injector)
    given = parser.parse_args(arguments)
    try:
        options = injector_options.read_options(given, os.environ)
    except injector_options.OptionError as error:
        print(f"{parser.prog} {given.command}: {error}", file=sys.stderr)
        return 2
    log_lines.configure()
    # The client library takes a second to load: not for --help.
    from .injector import run

    try:
        return _run_on_fast_loop(run(options))
    except KeyboardInterrupt:
        return _INTERRUPTED


def _run_on_fast_loop(main: Coroutine[Any, Any, int]) -> int:
    """On uvloop, where it is installed."""
    try:
        import uvloop
    except ImportError:  # pragma: no cover - on systems without uvloop
        return asyncio.run(main)
    return uvloop.run(main)


if __name__ == "__main__":
    sys.exit(main())
