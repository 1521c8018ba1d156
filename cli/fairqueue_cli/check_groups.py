"""The groups of checks, in the order in which they are made and shown."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from fairqueue_cli.check_gathering import cluster, installation, resource_definition, rights, second_lock, webhook
from fairqueue_cli.check_gathering_work import policies, workloads
from fairqueue_cli.check_inspection import Inspection
from fairqueue_cli.check_lines import Line

Check = Callable[[Inspection], Awaitable[list[Line]]]
CHECKS: Final[Sequence[tuple[str, Check]]] = (
    ("kubernetes-api", cluster),
    ("custom-resource", resource_definition),
    ("installation", installation),
    ("rights", rights),
    ("webhook", webhook),
    ("second-lock", second_lock),
    ("policies", policies),
    ("workloads", workloads),
)
"""All groups by their names; `rights` lists the policies for those after it."""
