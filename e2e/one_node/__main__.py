"""The command: finds what to do and says what went wrong in one line."""

import argparse
import sys
from pathlib import Path

from one_node.base_image import base_image
from one_node.components import COMPONENTS, start_again, stop
from one_node.containerd import import_archive
from one_node.down import down
from one_node.errors import NodeError
from one_node.layout import Layout
from one_node.namespaces import HOLDER
from one_node.only_one import only_one
from one_node.packages import install
from one_node.preconditions import check, reason_against, reason_against_touching, this_machine
from one_node.processes import Records
from one_node.status import status
from one_node.up import is_up, up

HELP = """A real one-node Kubernetes on this machine, for end-to-end tests.

examples, in the repository (`make cluster-up` and `make cluster-down` are the first and the last):
  PYTHONPATH=e2e .venv/bin/python -m one_node up
  PYTHONPATH=e2e .venv/bin/python -m one_node load image.tar
  eval "$(PYTHONPATH=e2e .venv/bin/python -m one_node kubeconfig --export)"
  PYTHONPATH=e2e .venv/bin/python -m one_node down"""


def main() -> int:
    args = _arguments()
    try:
        check(reason_against_touching(this_machine()))
        code: int = args.run(Layout.of_this_machine(), args)
    except NodeError as error:
        print(f"one_node: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("one_node: interrupted; `make cluster-down` removes what is there", file=sys.stderr)
        return 130
    return code


def _up(layout: Layout, _: argparse.Namespace) -> int:
    with only_one():
        up(layout)
    print(f"export KUBECONFIG={layout.kubeconfig}")
    return 0


def _down(layout: Layout, _: argparse.Namespace) -> int:
    with only_one():
        down(layout)
    return 0


def _status(layout: Layout, _: argparse.Namespace) -> int:
    well, table = status(layout)
    print(table)
    return 0 if well else 1


def _kubeconfig(layout: Layout, args: argparse.Namespace) -> int:
    if not is_up(layout):
        raise NodeError("the node is not up: `make cluster-up`")
    print(f"export KUBECONFIG={layout.kubeconfig}" if args.export else layout.kubeconfig)
    return 0


def _load(layout: Layout, args: argparse.Namespace) -> int:
    holder = Records(layout.records).read().get(HOLDER)
    if holder is None:
        raise NodeError("the node is not up: `make cluster-up`")
    for name in import_archive(holder, args.archive):
        print(name)
    return 0


def _stop(layout: Layout, args: argparse.Namespace) -> int:
    with only_one():
        stop(layout, args.component)
    return 0


def _start(layout: Layout, args: argparse.Namespace) -> int:
    with only_one():
        start_again(layout, args.component)
    return 0


def _base_image(layout: Layout, _: argparse.Namespace) -> int:
    with only_one():
        machine = this_machine()
        check(reason_against(machine))
        if machine.missing:
            install(machine.missing)
        print(base_image(layout.cache))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="one_node", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, about in (
        ("up", _up, "bring the node up, whatever is left of an earlier one; nothing if it is up"),
        ("down", _down, "take it down and leave nothing behind"),
        ("status", _status, "say what runs and where its log is; exit code 1 if the node is not up"),
        ("kubeconfig", _kubeconfig, "print the path of the kubeconfig"),
        ("load", _load, "bring an image archive into the node and print the names of its images"),
        ("stop", _stop, "kill one part of the node, as a crash would"),
        ("start", _start, "start one that does not run"),
        ("base-image", _base_image, "make the Debian image with Python and print its name in buildah's storage"),
    ):
        command = commands.add_parser(name, help=about, description=f"{about}.\n\nexample: {_EXAMPLES[name]}")
        command.formatter_class = argparse.RawDescriptionHelpFormatter
        command.set_defaults(run=run)
        if name == "load":
            command.add_argument("archive", type=Path, metavar="FILE.tar", help="docker or OCI archive")
        if name in ("stop", "start"):
            command.add_argument("component", choices=COMPONENTS, metavar="PART", help=", ".join(COMPONENTS))
        if name == "kubeconfig":
            command.add_argument("--export", action="store_true", help="print it as a line for the shell")
    return parser.parse_args()


_PYTHON = "PYTHONPATH=e2e .venv/bin/python -m one_node"
_EXAMPLES = {
    "up": f"{_PYTHON} up",
    "down": f"{_PYTHON} down",
    "status": f"{_PYTHON} status",
    "kubeconfig": f'eval "$({_PYTHON} kubeconfig --export)"',
    "load": f"buildah push IMAGE docker-archive:/tmp/image.tar:IMAGE && {_PYTHON} load /tmp/image.tar",
    "stop": f"{_PYTHON} stop kube-apiserver",
    "start": f"{_PYTHON} start kube-apiserver",
    "base-image": f'base="$({_PYTHON} base-image)" && buildah build --build-arg BASE="$base" .',
}


if __name__ == "__main__":
    sys.exit(main())
