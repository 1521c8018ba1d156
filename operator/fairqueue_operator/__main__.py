"""`python -m fairqueue_operator injector | operator`: finds what is to run, and loads nothing else."""

import argparse
import asyncio
import importlib
import os
import sys
from collections.abc import Coroutine, Sequence
from typing import Any, Final, NoReturn

from . import injector_options, log_lines, operator_options

_INTERRUPTED = 130
# Command → what it is in a list, its options, its module: the client libraries take a second to load, not for --help.
_COMMANDS: Final[dict[str, tuple[str, Any, str]]] = {
    "injector": ("run the admission webhook that puts the proxy into pods", injector_options, "injector"),
    "operator": ("run the operator that makes policies true", operator_options, "operating"),
}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see `{self.prog} --help`)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code (2: bad input)."""
    parser = _Parser(prog="python -m fairqueue_operator", description="What fairqueue does on Kubernetes.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command, (what, options, _) in _COMMANDS.items():
        formatter = argparse.RawDescriptionHelpFormatter
        options.add_arguments(
            commands.add_parser(command, help=what, description=options.HELP, formatter_class=formatter)
        )
    given = parser.parse_args(arguments)
    _, options, module = _COMMANDS[given.command]
    try:
        found = options.read_options(given, os.environ)
    except injector_options.OptionError as error:
        print(f"{parser.prog} {given.command}: {error}", file=sys.stderr)
        return 2
    log_lines.configure()
    try:
        return _run_on_fast_loop(importlib.import_module(f".{module}", __package__).run(found))
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
