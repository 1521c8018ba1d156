"""`fairqueue check`: whether fairqueue works on a cluster; if not, what is wrong, and the command that mends it."""

import argparse
import asyncio
import importlib.metadata
import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fairqueue_cli import kubernetes_options
from fairqueue_operator.cluster_model import ClusterError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fairqueue_cli.check_groups import Check
    from fairqueue_cli.check_inspection import Inspection
    from fairqueue_cli.check_lines import Group, Mark

HELP = """Check fairqueue on Kubernetes: what it needs, what is installed, what it may do, its certificates, whether the
webhook answers, and policies, controllers and pods that are not as they should be. Below each thing that is wrong is
the command that mends it.

examples:
  fairqueue check
  fairqueue check -n models
  kubectl fairqueue check --json

Nothing is changed: whether the webhook answers is tried by a dry run of a pod. What you have no right to see is a
warning. Exit code 1: a check failed; 2: bad input, or no cluster."""

_MISSING = "needs Kubernetes' client library: pip install 'fairqueue[operator]'"
_CLEAR_LINE = "\r\x1b[K"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `fairqueue check`."""
    kubernetes_options.add_arguments(
        parser, "check policies and pods of this one only, with a dry run there (all; default)"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="what is not found out by then fails (%(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Exit code 1: a check failed; 2: bad input, in one line on standard error."""
    if not 0 < args.timeout <= 3600:
        return _bad_input(f"--timeout {args.timeout:g}: must be more than 0 and at most 3600 seconds")
    try:
        # Kubernetes' client library takes a second to load: not for --help.
        from fairqueue_cli import check_report

        groups = asyncio.run(_groups(args))
    except ModuleNotFoundError as error:
        return _bad_input(f"{_MISSING} ({error.name} is missing)")
    except ClusterError as error:
        return _bad_input(str(error))
    if args.json:
        print(json.dumps(check_report.as_values(groups), indent=2))
    else:
        print(check_report.verdict_text(groups, _signs()))
    return 0 if check_report.is_well(groups) else 1


async def _groups(args: argparse.Namespace) -> "list[Group]":
    from fairqueue_cli.check_groups import CHECKS
    from fairqueue_cli.check_inspection import Inspection
    from fairqueue_cli.kubernetes_reading import connected

    groups = []
    deadline = asyncio.get_running_loop().time() + args.timeout
    async with connected(kubernetes_options.target_of(args)) as (reader, _):
        inspection = Inspection(reader, args.namespace, importlib.metadata.version("fairqueue"), datetime.now(UTC))
        for name, check in CHECKS:
            _show_progress(name, args)
            groups.append(await _group(name, check, inspection, deadline))
            _show(groups[-1], args)
    return groups


async def _group(name: str, check: "Check", inspection: "Inspection", deadline: float) -> "Group":
    from fairqueue_cli.check_lines import Group, failed

    try:
        async with asyncio.timeout_at(deadline):
            return Group(name, tuple(await check(inspection)))
    except TimeoutError:
        return Group(name, (failed("not found out in time: give it more with --timeout SECONDS"),))


def _show_progress(name: str, args: argparse.Namespace) -> None:
    if sys.stderr.isatty() and not args.json:
        sys.stderr.write(f"{_CLEAR_LINE}{name} ...")
        sys.stderr.flush()


def _show(group: "Group", args: argparse.Namespace) -> None:
    from fairqueue_cli.check_report import group_text

    if args.json:
        return
    if sys.stderr.isatty():
        sys.stderr.write(_CLEAR_LINE)
        sys.stderr.flush()
    print(group_text(group, _signs()), flush=True)


def _signs() -> "Mapping[Mark, str]":
    from fairqueue_cli.check_report import signs_for

    return signs_for(sys.stdout.encoding, is_terminal=sys.stdout.isatty())


def _bad_input(message: str) -> int:
    print(f"fairqueue check: {message}", file=sys.stderr)
    return 2
