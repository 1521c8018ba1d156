"""The `fairqueue` command: finds the subcommand and loads nothing else.

Each subcommand is a module with `HELP`, `add_arguments(parser)` and `run(args)`; it is imported only when it is
called, so that `fairqueue serve` starts fast and small.
"""

import argparse
import gc
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

# Name → module, and what it does.
Commands = Mapping[str, tuple[str, str]]
COMMANDS: Commands = {
    "serve": ("fairqueue_cli.serve", "run the proxy in front of a model server"),
    "drain": ("fairqueue_cli.drain", "tell a running proxy to finish what it has and take nothing new"),
    "render": ("fairqueue_cli.render", "print the document that a policy is for the proxy"),
    "validate": ("fairqueue_cli.validate", "check policy files, and say what is wrong and how to mend it"),
    "engine-sim": ("fairqueue_cli.engine_sim", "run a simulated model server over HTTP"),
    "simulate": ("fairqueue_cli.simulate", "see in virtual time what a scheduler or a policy does with a workload"),
    "load": ("fairqueue_cli.load", "put load on a model server and report what each tenant got"),
    "demo": ("fairqueue_cli.demo", "share a real model between a flood and a chat, without and with fairqueue"),
    "status": ("fairqueue_cli.status", "show what became of policies and their pods on Kubernetes"),
    "check": ("fairqueue_cli.check", "find what is wrong with fairqueue on Kubernetes, and the command that mends it"),
}
KUBECTL_COMMANDS = {name: COMMANDS[name] for name in ("status", "check")}

# As a shell has it of who dies of SIGPIPE.
_OUTPUT_CLOSED = 128 + 13


def _usage(program: str, commands: Commands) -> str:
    width = max(map(len, commands))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in commands.items()]
    return f"usage: {program} COMMAND [OPTION ...]\n\nMakes a shared LLM fair.\n\n" + "\n".join(
        [*lines, "", f"`{program} COMMAND --help` says more."]
    )


def _prepare_fast_start() -> None:
    """Saves a third of the start. aiohttp reads all CA certificates when it is imported, for TLS connections that
    the proxy never makes; pydantic looks through all that is installed for plug-ins; and collecting garbage while
    modules are loaded finds none. `serve` turns it on again."""
    os.environ["SSL_CERT_FILE"] = os.environ["SSL_CERT_DIR"] = os.devnull
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    gc.disable()


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all else that is wrong with input."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see `{self.prog} --help`)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code (2: bad input, 130: interrupted, 141: nobody reads the output)."""
    return _run("fairqueue", COMMANDS, arguments)


def kubectl_plugin(arguments: Sequence[str] | None = None) -> int:
    """The same as `kubectl fairqueue`, with the commands that are about a cluster."""
    return _run("kubectl fairqueue", KUBECTL_COMMANDS, arguments)


def _run(program: str, commands: Commands, arguments: Sequence[str] | None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(_usage(program, commands))
        return 0 if given else 2
    name, *rest = given
    if name not in commands:
        print(f"{program}: there is no command {name!r}: try one of {', '.join(commands)}", file=sys.stderr)
        return 2
    if name in ("serve", "render"):
        _prepare_fast_start()
    module = importlib.import_module(commands[name][0])
    parser = _Parser(
        prog=f"{program} {name}", description=module.HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.add_arguments(parser)
    try:
        code: int = module.run(parser.parse_args(rest))
        sys.stdout.flush()
    except KeyboardInterrupt:
        # Where nothing has to be put in order first.
        return 130
    except BrokenPipeError:
        # Who reads the output, such as `head`, has seen enough; at its end Python would try to write the rest again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _OUTPUT_CLOSED
    return code


if __name__ == "__main__":
    sys.exit(main())
