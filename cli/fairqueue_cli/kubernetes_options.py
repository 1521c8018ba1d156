"""The options by which `kubectl` too is told which cluster and which namespaces are meant."""

import argparse
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """What was given. None: as the kubeconfig says; `namespace` None: as the context says."""

    kubeconfig: str | None
    context: str | None
    namespace: str | None


def add_arguments(parser: argparse.ArgumentParser, namespace: str) -> None:
    """The options that all commands for a cluster have; `namespace` is what is said of -n."""
    parser.add_argument(
        "--kubeconfig", metavar="FILE", help="(KUBECONFIG, else ~/.kube/config; in a pod, its service account)"
    )
    parser.add_argument("--context", metavar="NAME", help="of the kubeconfig (its current one)")
    parser.add_argument("-n", "--namespace", metavar="NS", help=namespace)


def target_of(args: argparse.Namespace) -> Target:
    """What was given."""
    return Target(args.kubeconfig, args.context, args.namespace)
