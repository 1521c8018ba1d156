"""What the operator knows of policies and pods, and which policies a change of either concerns. No I/O.

Filled by the watches' events. A list puts right what a watch has missed, as an object that went while a watch was
broken off has no event; what events have said since the list began is newer than it. Events of one object come in
order; those of an object and of another that was made under its name later may not. Of pods only a few facts are kept.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from .cluster_model import Resource
from .planning.pod_facts import PodFacts, read_pod
from .planning.policy_facts import PolicyFacts, read_policy_facts
from .resource_json import mapping, uid_of


class PolicyKey(NamedTuple):
    """Which policy; there may be none of that name (any more)."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class KnownPolicy:
    """A policy as it was read last: what is known of it, and its status, which is ours."""

    facts: PolicyFacts
    status: Resource
    read_from: Resource
    """What of the resource the facts are of."""
    version: int = 0


@dataclass(slots=True)
class _Namespace:
    policies: dict[str, KnownPolicy] = field(default_factory=dict)
    pods: dict[str, PodFacts] = field(default_factory=dict)
    pod_versions: dict[str, int] = field(default_factory=dict)


class Store:
    """See the module's text. What changes it returns the keys of the policies that must be looked at again."""

    def __init__(self) -> None:
        self._namespaces: dict[str, _Namespace] = {}
        # Policy → names of pods that it selects, or that are bound to it.
        self._members: dict[PolicyKey, set[str]] = {}
        # Of what events have told since a list was begun.
        self._policies_told: set[PolicyKey] = set()
        self._pods_told: set[tuple[str, str]] = set()

    def policy(self, key: PolicyKey) -> KnownPolicy | None:
        """The policy, if there is one."""
        namespace = self._namespaces.get(key.namespace)
        return None if namespace is None else namespace.policies.get(key.name)

    def policies(self) -> Iterator[tuple[PolicyKey, KnownPolicy]]:
        """All of them."""
        for namespace, known in self._namespaces.items():
            for name, policy in known.policies.items():
                yield PolicyKey(namespace, name), policy

    def policies_of(self, namespace: str) -> Mapping[str, KnownPolicy]:
        """Those of one namespace, by name."""
        known = self._namespaces.get(namespace)
        return {} if known is None else known.policies

    def pods_of(self, key: PolicyKey) -> tuple[PodFacts, ...]:
        """The pods that the policy selects, and those that are bound to it whatever it selects."""
        known = self._namespaces.get(key.namespace)
        if known is None:
            return ()
        return tuple(known.pods[name] for name in sorted(self._members.get(key, ())) if name in known.pods)

    def orphaned(self) -> int:
        """How many pods are bound to a policy that is not there."""
        return sum(
            pod.bound_policy != "" and pod.bound_policy not in known.policies
            for known in self._namespaces.values()
            for pod in known.pods.values()
        )

    def put_policy(self, item: Resource) -> set[PolicyKey]:
        """An event: a policy is there, or has changed."""
        key = _policy_key(item)
        self._policies_told.add(key)
        known = self.policy(key)
        if known is not None and known.facts.uid != uid_of(item) and _version(item) < known.version:
            return set()
        return self._put_policy(item)

    def put_status(self, key: PolicyKey, status: Resource) -> None:
        """We wrote it; the event says so later."""
        known = self._namespaces.get(key.namespace)
        if known is not None and (policy := known.policies.get(key.name)) is not None:
            known.policies[key.name] = replace(policy, status=status)

    def drop_policy(self, item: Resource) -> set[PolicyKey]:
        """An event: a policy is gone; its own key is among those returned, for the pods that it leaves behind.

        One of the same name that was made since is another: events of different objects come in any order.
        """
        key = _policy_key(item)
        self._policies_told.add(key)
        known = self.policy(key)
        return set() if known is None or known.facts.uid != uid_of(item) else self._drop_policy(key)

    def put_pod(self, item: Resource) -> set[PolicyKey]:
        """An event: a pod is there, or has changed."""
        pod = read_pod(item)
        if pod is None:
            return self.drop_pod(item)
        self._pods_told.add((pod.namespace, pod.name))
        known = self._namespaces.setdefault(pod.namespace, _Namespace())
        before, version = known.pods.get(pod.name), _version(item)
        if before is not None and before.uid != pod.uid and version < known.pod_versions.get(pod.name, 0):
            return set()
        known.pod_versions[pod.name] = version
        return self._put_pod(pod)

    def drop_pod(self, item: Resource) -> set[PolicyKey]:
        """An event: a pod is gone."""
        namespace, name = _place(item)
        self._pods_told.add((namespace, name))
        known = self._namespaces.get(namespace)
        pod = None if known is None else known.pods.get(name)
        return set() if pod is None or pod.uid != uid_of(item) else self._drop_pod(pod)

    def forget_policy(self, key: PolicyKey) -> set[PolicyKey]:
        """The API server says that it is not there."""
        return self._drop_policy(key)

    def begin_listing(self) -> None:
        """A list of everything is about to be asked for."""
        self._policies_told, self._pods_told = set(), set()

    def end_listing(self, policies: Iterable[Resource], pods: Iterable[PodFacts]) -> set[PolicyKey]:
        """All that there was when it was listed."""
        listed_policies = {_policy_key(item): item for item in policies}
        listed_pods = {(pod.namespace, pod.name): pod for pod in pods}
        touched: set[PolicyKey] = set()
        for key in listed_policies.keys() - self._policies_told:
            touched |= self._put_policy(listed_policies[key])
        for place in listed_pods.keys() - self._pods_told:
            touched |= self._put_pod(listed_pods[place])
        for key in {key for key, _ in self.policies()} - listed_policies.keys() - self._policies_told:
            touched |= self._drop_policy(key)
        known_pods = {(it.namespace, it.name): it for known in self._namespaces.values() for it in known.pods.values()}
        for place in known_pods.keys() - listed_pods.keys() - self._pods_told:
            touched |= self._drop_pod(known_pods[place])
        return touched

    def _put_policy(self, item: Resource) -> set[PolicyKey]:
        key = _policy_key(item)
        known = self._namespaces.setdefault(key.namespace, _Namespace())
        before, status, matters = known.policies.get(key.name), mapping(item.get("status")), _without_status(item)
        if before is not None and before.read_from == matters:
            known.policies[key.name] = KnownPolicy(before.facts, status, matters, _version(item))
            return {key} if status != before.status else set()
        facts = read_policy_facts(item)
        known.policies[key.name] = KnownPolicy(facts, status, matters, _version(item))
        self._members[key] = {
            pod.name for pod in known.pods.values() if pod.bound_policy == key.name or facts.selects(pod.labels)
        }
        # Another's selector may have come to meet, or to leave, the same pods.
        return {PolicyKey(key.namespace, name) for name in known.policies}

    def _drop_policy(self, key: PolicyKey) -> set[PolicyKey]:
        known = self._namespaces.get(key.namespace)
        if known is None or known.policies.pop(key.name, None) is None:
            return set()
        self._members[key] = {pod.name for pod in known.pods.values() if pod.bound_policy == key.name}
        if not self._members[key]:
            del self._members[key]
        left = {key, *(PolicyKey(key.namespace, name) for name in known.policies)}
        self._forget_if_empty(key.namespace)
        return left

    def _put_pod(self, pod: PodFacts) -> set[PolicyKey]:
        known = self._namespaces.setdefault(pod.namespace, _Namespace())
        before = known.pods.get(pod.name)
        if before == pod:
            return set()
        known.pods[pod.name] = pod
        selecting = (name for name, policy in known.policies.items() if policy.facts.selects(pod.labels))
        concerned = {PolicyKey(pod.namespace, name) for name in selecting}
        if pod.bound_policy:
            concerned.add(PolicyKey(pod.namespace, pod.bound_policy))
        left = set() if before is None else self._leave(before)
        for key in concerned:
            self._members.setdefault(key, set()).add(pod.name)
        return concerned | left

    def _drop_pod(self, pod: PodFacts) -> set[PolicyKey]:
        known = self._namespaces[pod.namespace]
        del known.pods[pod.name]
        known.pod_versions.pop(pod.name, None)
        left = self._leave(pod)
        self._forget_if_empty(pod.namespace)
        return left

    def _leave(self, pod: PodFacts) -> set[PolicyKey]:
        """Takes the pod out of wherever it is a member; returns where that was."""
        known = self._namespaces[pod.namespace]
        keys = {PolicyKey(pod.namespace, name) for name in known.policies}
        if pod.bound_policy:
            keys.add(PolicyKey(pod.namespace, pod.bound_policy))
        left = {key for key in keys if pod.name in self._members.get(key, ())}
        for key in left:
            self._members[key].discard(pod.name)
            if not self._members[key] and key.name not in known.policies:
                del self._members[key]
        return left

    def _forget_if_empty(self, namespace: str) -> None:
        known = self._namespaces[namespace]
        if not known.policies and not known.pods:
            del self._namespaces[namespace]


def _without_status(item: Resource) -> dict[str, Any]:
    """What of a policy matters to others: not what we write ourselves."""
    metadata = mapping(item.get("metadata"))
    kept = {name: metadata.get(name) for name in ("uid", "generation", "creationTimestamp")}
    return {"metadata": kept, "spec": item.get("spec")}


def _version(item: Resource) -> int:
    """Resource versions of one kind can be compared, since Kubernetes 1.35 by promise."""
    version = str(mapping(item.get("metadata")).get("resourceVersion", ""))
    return int(version) if version.isdecimal() else 0


def _policy_key(item: Resource) -> PolicyKey:
    return PolicyKey(*_place(item))


def _place(item: Resource) -> tuple[str, str]:
    metadata = mapping(item.get("metadata"))
    return str(metadata.get("namespace", "")), str(metadata.get("name", ""))
