"""What `fairqueue status` says of a policy, and which pods belong to which. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fairqueue_api import FairnessPolicy
from fairqueue_api.status import POD_STATES
from fairqueue_cli.kubernetes_json import (
    Resource,
    condition_of,
    mapping_at,
    name_of,
    namespace_of,
    number_at,
    text_at,
)
from fairqueue_cli.status_pods import Pod
from fairqueue_operator.injection.label_selectors import matches
from fairqueue_operator.policy_cache import InvalidPolicy, read_policy

CONDITIONS = ("Accepted", "Programmed", "Ready")


@dataclass(frozen=True, slots=True)
class ConditionView:
    """One condition; status Unknown and no reason where the operator has not written it."""

    type: str
    status: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy and its status. `is_observed`: the status is about the policy as it is now."""

    namespace: str
    name: str
    conditions: tuple[ConditionView, ...]
    is_observed: bool
    tenants: int | None
    counts: dict[str, int]
    revision: str
    parsed: FairnessPolicy | InvalidPolicy

    @property
    def key(self) -> str:
        """As documents and people name it."""
        return f"{self.namespace}/{self.name}"

    def condition(self, kind: str) -> ConditionView:
        """Accepted, Programmed or Ready."""
        return next(each for each in self.conditions if each.type == kind)

    @property
    def is_ready(self) -> bool:
        """As its status says, and the status is about the policy as it is now."""
        return self.is_observed and self.condition("Ready").status == "True"

    def selects(self, pod: Pod) -> bool:
        """The selector matches a pod of its namespace."""
        if pod.namespace != self.namespace:
            return False
        if isinstance(self.parsed, InvalidPolicy):
            return self.parsed.selects(pod.labels)
        return matches(self.parsed.spec.selector, pod.labels)


def read(item: Resource) -> Policy:
    """The policy in a resource, whatever the operator has written of it."""
    counts = mapping_at(item, "status", "pods")
    return Policy(
        namespace=namespace_of(item),
        name=name_of(item),
        conditions=tuple(_condition(item, kind) for kind in CONDITIONS),
        is_observed=number_at(condition_of(item, "Ready"), "observedGeneration")
        == number_at(item, "metadata", "generation"),
        tenants=number_at(item, "status", "tenants"),
        counts={name: count for name in POD_STATES if (count := number_at(counts, name)) is not None},
        revision=text_at(item, "status", "configRevision"),
        parsed=read_policy(item),
    )


def divide(policies: Sequence[Policy], pods: Iterable[Pod]) -> tuple[dict[str, list[Pod]], list[Pod]]:
    """The pods of each policy by its key, and those of none that ask for one.

    A pod with the proxy belongs to the policy that its proxy goes by; any other to the one that its label names, or
    to all whose selector matches.
    """
    divided: dict[str, list[Pod]] = {policy.key: [] for policy in policies}
    of_none = []
    for pod in sorted(pods, key=lambda pod: (pod.namespace, pod.name)):
        if named := pod.bound or (pod.chosen if pod.asks else ""):
            keys = [key] if (key := f"{pod.namespace}/{named}") in divided else []
        else:
            keys = [policy.key for policy in policies if policy.selects(pod)]
        for key in keys:
            divided[key].append(pod)
        if not keys and (pod.asks or pod.is_injected):
            of_none.append(pod)
    return divided, of_none


def _condition(item: Resource, kind: str) -> ConditionView:
    found = condition_of(item, kind)
    status = text_at(found, "status") or "Unknown"
    return ConditionView(kind, status, text_at(found, "reason"), text_at(found, "message"))
