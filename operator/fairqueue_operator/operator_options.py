"""The options of `python -m fairqueue_operator operator`: what they are, and whether what was given can be used."""

import argparse
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from fairqueue_api.address import Address

from .injector_options import OptionError, address_of, own_namespace

HELP: Final = """Run the operator: it makes FairnessPolicies true, and says in their status how far it is.

example:
  python -m fairqueue_operator operator --namespace fairqueue-system

It speaks to the cluster that it runs in, or to the one that the environment variable KUBECONFIG names. Of several
replicas one works, and the others stand by: they agree by a Lease. SIGTERM or Ctrl-C stops it in order."""


@dataclass(frozen=True, slots=True)
class OperatorOptions:
    """What was given, checked."""

    namespace: str
    lease: str
    health: Address
    instance: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the operator."""
    add = parser.add_argument
    add("--namespace", metavar="NS", help="the operator's own (POD_NAMESPACE, else that of its service account)")
    add("--lease", default="fairqueue-operator", metavar="NAME", help="the Lease that replicas agree by (%(default)s)")
    add("--health", default="0.0.0.0:8080", metavar="HOST:PORT", help="health and metrics (%(default)s)")


def read_options(given: argparse.Namespace, environment: Mapping[str, str]) -> OperatorOptions:
    """The options, checked. Raises `OptionError`."""
    namespace = given.namespace or environment.get("POD_NAMESPACE") or own_namespace()
    if not namespace:
        raise OptionError("--namespace: not given, and not to be found out outside a cluster: give it")
    return OperatorOptions(
        namespace=namespace,
        lease=given.lease,
        health=address_of(given.health, "--health"),
        instance=environment.get("POD_NAME") or socket.gethostname(),
    )
