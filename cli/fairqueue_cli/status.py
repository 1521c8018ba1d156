"""`fairqueue status`: what became of each policy, and of each pod that it is for."""

import argparse
import asyncio
import json
import sys
from typing import TYPE_CHECKING

from fairqueue_cli import kubernetes_options
from fairqueue_operator.cluster_model import ClusterError

if TYPE_CHECKING:
    from fairqueue_cli.status_report import Overview

HELP = """Show what became of each FairnessPolicy on Kubernetes: whether it is Ready, and why not; and of each of its
pods whether it has the proxy, by which revision it goes, and how many requests wait and are served there.

examples:
  fairqueue status
  fairqueue status -n models
  kubectl fairqueue status -A --json

What you have no right to see is left out, with the reason: requests are asked of the proxies through the API server
(`get` on `pods/proxy`). Exit code 1: a policy is not Ready, or a pod has not the proxy or the policy that it asks for;
2: bad input, or no cluster."""

_MISSING = "needs Kubernetes' client library: pip install 'fairqueue[operator]'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `fairqueue status`."""
    kubernetes_options.add_arguments(parser, "that of the context")
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="those of all namespaces")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Exit code 1: something is not Ready; 2: bad input, in one line on standard error."""
    try:
        # Kubernetes' client library takes a second to load: not for --help.
        from fairqueue_cli import status_report

        overview = asyncio.run(_overview(args))
    except ModuleNotFoundError as error:
        return _failed(f"{_MISSING} ({error.name} is missing)")
    except ClusterError as error:
        return _failed(str(error))
    if args.json:
        print(json.dumps(status_report.as_values(overview), indent=2))
    elif overview.policies or overview.of_none:
        print(status_report.as_text(overview))
    else:
        print("there is no FairnessPolicy" + ("" if args.all_namespaces else ": -A looks in all namespaces"))
    return 0 if overview.is_well else 1


async def _overview(args: argparse.Namespace) -> "Overview":
    from fairqueue_cli.kubernetes_reading import connected
    from fairqueue_cli.status_gathering import overview_of

    async with connected(kubernetes_options.target_of(args)) as (reader, namespace):
        return await overview_of(reader, None if args.all_namespaces else namespace)


def _failed(message: str) -> int:
    print(f"fairqueue status: {message}", file=sys.stderr)
    return 2
