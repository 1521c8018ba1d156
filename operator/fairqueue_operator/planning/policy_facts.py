"""What the planner knows of a FairnessPolicy: who it is, how old, what it says, and what is wrong with it.

Read once for each version of the policy: all that costs time is done here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fairqueue_api import FairnessPolicy, PolicyError, Problem
from fairqueue_api.own_rules import broken_own_rules
from fairqueue_api.rules import broken_rules
from fairqueue_api.structure import parse_structure

from ..cluster_model import Resource
from ..injection.label_selectors import matches
from ..policy_cache import InvalidPolicy, read_policy


@dataclass(frozen=True, slots=True)
class PolicyFacts:
    """A policy as it was read last."""

    namespace: str
    name: str
    uid: str
    generation: int
    created: str
    """RFC 3339 in UTC, as the API server writes it: such texts sort as their times do."""
    parsed: FairnessPolicy | InvalidPolicy
    problems: tuple[Problem, ...]
    """Everything that keeps the policy itself, whatever its keys, from being in force."""

    @property
    def full_name(self) -> str:
        """As documents name their policy."""
        return f"{self.namespace}/{self.name}"

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether its selector matches; of one that cannot be read, whether it may."""
        if isinstance(self.parsed, InvalidPolicy):
            return self.parsed.selects(labels)
        return matches(self.parsed.spec.selector, labels)

    def is_older_than(self, other: "PolicyFacts") -> bool:
        """By creation; of two of one second, by name."""
        return (self.created, self.name) < (other.created, other.name)


def read_policy_facts(item: Resource) -> PolicyFacts:
    """The facts of a policy as the API server gives it. Never raises."""
    metadata: Any = item.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    generation = metadata.get("generation")
    parsed = read_policy(item)
    return PolicyFacts(
        namespace=str(metadata.get("namespace", "")),
        name=str(metadata.get("name", "")),
        uid=str(metadata.get("uid", "")),
        generation=generation if isinstance(generation, int) else 0,
        created=str(metadata.get("creationTimestamp", "")),
        parsed=parsed,
        problems=tuple(_problems(item, parsed)),
    )


def _problems(item: Resource, parsed: FairnessPolicy | InvalidPolicy) -> list[Problem]:
    # Without a source: whoever reads a status knows whose it is.
    if not isinstance(parsed, InvalidPolicy):
        return broken_rules(parsed, "") + broken_own_rules(parsed, "")
    try:
        parse_structure(item, "")
    except PolicyError as error:
        return list(error.problems)
    raise AssertionError("a policy that can be read is not invalid")
