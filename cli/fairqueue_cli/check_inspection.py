"""What one run of `fairqueue check` is about, and what its groups of checks hand on to one another."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from fairqueue_cli.kubernetes_json import Resource
from fairqueue_cli.kubernetes_reading import Reader
from fairqueue_cli.kubernetes_unknown import Unknown
from fairqueue_operator.resource_json import path

_NOT_LISTED: Final = Unknown("there was no time for it")


@dataclass(slots=True)
class Inspection:
    """What the checks are of: policies and pods of one namespace, or of all. `version` is this command's."""

    reader: Reader
    namespace: str | None
    version: str
    now: datetime
    policies: Sequence[Resource] | Unknown = _NOT_LISTED

    def all_of(self, kind: str, group: str) -> str:
        """Where the objects of a kind are."""
        return f"{group}/{kind}" if self.namespace is None else path(group, self.namespace, kind)
