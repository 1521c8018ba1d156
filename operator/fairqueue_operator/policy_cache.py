"""The FairnessPolicies of the cluster, by namespace: those that can be used, and those that cannot, with the reason.

Synchronous; filled by `policy_watch`. What the API server holds has passed the CRD's schema, so a policy that cannot
be read is one of a newer CRD than this version knows, or of a cluster whose CRD is another one. It is kept: a pod
that it selects must be told so, and not that there is no policy.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fairqueue_api import FairnessPolicy, PolicyError
from fairqueue_api.structure import parse_structure

from .cluster_model import Resource, ResourceEvent


@dataclass(frozen=True, slots=True)
class InvalidPolicy:
    """A policy that cannot be used: its name, what is wrong, and as much of its selector as can be read."""

    namespace: str
    name: str
    problem: str
    selector: Resource

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether the pod may be meant. What cannot be read of the selector excludes nobody."""
        exact, conditions = self.selector.get("matchLabels"), self.selector.get("matchExpressions")
        wanted = exact.items() if isinstance(exact, dict) else ()
        return all(labels.get(key) == value for key, value in wanted if isinstance(value, str)) and all(
            _holds(condition, labels)
            for condition in (conditions if isinstance(conditions, list) else ())
            if isinstance(condition, dict)
        )


@dataclass(frozen=True, slots=True)
class NamespacePolicies:
    """The policies of one namespace, in the order of their names."""

    usable: tuple[FairnessPolicy, ...] = ()
    invalid: tuple[InvalidPolicy, ...] = ()


class PolicyCache:
    """What is known of the cluster's policies; `filled` from the first complete list on."""

    def __init__(self) -> None:
        self._by_namespace: dict[str, dict[str, FairnessPolicy | InvalidPolicy]] = {}
        self.filled = False

    def __len__(self) -> int:
        return sum(map(len, self._by_namespace.values()))

    def replace(self, items: Iterable[Resource]) -> None:
        """Forgets everything but these: a list was made."""
        by_namespace: dict[str, dict[str, FairnessPolicy | InvalidPolicy]] = {}
        for item in items:
            namespace, name = _place(item)
            by_namespace.setdefault(namespace, {})[name] = read_policy(item)
        self._by_namespace = by_namespace
        self.filled = True

    def apply(self, event: ResourceEvent) -> None:
        """Takes up one change."""
        if event.type == "BOOKMARK":
            return
        namespace, name = _place(event.item)
        if event.type == "DELETED":
            policies = self._by_namespace.get(namespace, {})
            policies.pop(name, None)
            if not policies:
                self._by_namespace.pop(namespace, None)
        else:
            self._by_namespace.setdefault(namespace, {})[name] = read_policy(event.item)

    def of(self, namespace: str) -> NamespacePolicies:
        """The policies of a namespace."""
        return sorted_out(self._by_namespace.get(namespace, {}).values())


def read_policies(items: Iterable[Resource]) -> NamespacePolicies:
    """Likewise, of a list of one namespace's policies."""
    return sorted_out(map(read_policy, items))


def sorted_out(policies: Iterable[FairnessPolicy | InvalidPolicy]) -> NamespacePolicies:
    """Usable and invalid policies apart, by name."""
    usable, invalid = [], []
    for policy in policies:
        if isinstance(policy, InvalidPolicy):
            invalid.append(policy)
        else:
            usable.append(policy)
    usable.sort(key=lambda policy: policy.metadata.name)
    invalid.sort(key=lambda policy: policy.name)
    return NamespacePolicies(tuple(usable), tuple(invalid))


def read_policy(item: Resource) -> FairnessPolicy | InvalidPolicy:
    """The policy in a resource, as far as it can be read.

    Only its shape is looked at: a policy that asks for what is not supported yet leaves its stored document in force,
    and pods that are made meanwhile should come up with that.
    """
    namespace, name = _place(item)
    try:
        return parse_structure(item, f"policy {namespace}/{name}")
    except PolicyError as error:
        spec = item.get("spec")
        selector = spec.get("selector") if isinstance(spec, dict) else None
        return InvalidPolicy(namespace, name, str(error), selector if isinstance(selector, dict) else {})


def _place(item: Resource) -> tuple[str, str]:
    metadata = item.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    return str(metadata.get("namespace", "")), str(metadata.get("name", ""))


def _holds(condition: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = condition.get("key"), condition.get("values")
    if not isinstance(key, str):
        return True
    value = labels.get(key)
    match condition.get("operator"):
        case "In" if isinstance(values, list):
            return value in values
        case "NotIn" if isinstance(values, list):
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    return True
