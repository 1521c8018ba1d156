"""Pods that a policy means and that are served past it, as they have no proxy: what is said of them, and what to do."""

from collections.abc import Iterable, Sequence

from ..injection.names import INJECT_LABEL
from ..policy_cache import InvalidPolicy
from .pod_facts import PodFacts
from .policy_facts import PolicyFacts
from .verdicts import first_named


def asking(policy: PolicyFacts, pods: Sequence[PodFacts]) -> list[PodFacts]:
    """Pods that ask for a proxy and would get this policy, if they were made now."""
    return [pod for pod in pods if pod.asks and pod.policy_label in ("", policy.name) and policy.selects(pod.labels)]


def no_pods(policy: PolicyFacts, pods: Sequence[PodFacts]) -> str:
    """Why no pod has the policy's proxy, as far as `pods`, those that it selects, show it."""
    if _is_disabled(policy):
        return "No pod gets a proxy: spec.injection.mode is Disabled."
    found = asking(policy, pods)
    if found:
        return f"No pod has a proxy of this policy. {_bare_hint(policy, found)}"
    return (
        f'No pod with the label {INJECT_LABEL}: "true" matches spec.selector: '
        f"kubectl -n {policy.namespace} get pods --show-labels"
    )


def hints(policy: PolicyFacts, pods: Sequence[PodFacts], unlabelled: int) -> Iterable[str]:
    """What else is to be known: which pods that the policy selects are served past it."""
    bare = [pod for pod in asking(policy, pods) if not pod.bound_policy]
    if bare and not _is_disabled(policy):
        yield _bare_hint(policy, bare)
    if unlabelled:
        yield _unlabelled_hint(unlabelled)


def _is_disabled(policy: PolicyFacts) -> bool:
    return not isinstance(policy.parsed, InvalidPolicy) and policy.parsed.spec.injection.mode == "Disabled"


def _bare_hint(policy: PolicyFacts, bare: Sequence[PodFacts]) -> str:
    names = first_named(sorted(pod.name for pod in bare))
    return (
        f"Matched by spec.selector, with the label {INJECT_LABEL}, and without this policy's proxy: "
        f"{_count(len(bare), 'pod')}: {names}; restart what owns them, as by "
        f"kubectl -n {policy.namespace} rollout restart deployment NAME."
    )


def _unlabelled_hint(unlabelled: int) -> str:
    return (
        f"Matched by spec.selector and not asking for a proxy: {_count(unlabelled, 'pod')}; write "
        f'{INJECT_LABEL}: "true" into the labels of the pod template.'
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
