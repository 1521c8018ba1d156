"""Whether the pods run on what was decided: the conditions Programmed and Ready, and how many pods do.

Never ahead of the facts: only what a proxy has said itself counts. Proxies that have not started yet do not count
against it, or every rollout would take Ready away.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ..admission import one_line
from ..injection.names import INJECT_LABEL
from ..policy_cache import InvalidPolicy
from ..text_limits import fitted
from .judging import Judgement
from .pod_facts import PodFacts
from .policy_facts import PolicyFacts
from .verdicts import Verdict, verdict

_PODS_NAMED: Final = 3
# Of what a pod says about itself.
_PROBLEM_BYTES: Final = 300
_REVISION_CHARACTERS: Final = 12


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What a pod's proxy said last of the document that it runs on."""

    policy: str
    """namespace/name; empty if there is none, or no answer."""
    revision: str
    problem: str
    """Why there is no answer, or why the proxy cannot use what it was given last; empty if all is well."""


@dataclass(frozen=True, slots=True)
class PodTotals:
    """The counts of the status. None: not counted yet."""

    matched: int | None
    unlabelled: int | None
    injected: int
    current: int


@dataclass(frozen=True, slots=True)
class Programming:
    """What is true of a policy's pods."""

    programmed: Verdict
    ready: Verdict
    pods: PodTotals


def is_current(policy: str, revision: str, said: Acknowledgement | None) -> bool:
    """Whether a proxy said that it runs on that revision of that policy (namespace/name), and has no problem."""
    return said is not None and revision != "" and said == Acknowledgement(policy, revision, "")


def assess(
    policy: PolicyFacts,
    judgement: Judgement,
    stored_revision: str,
    pods: Iterable[PodFacts],
    acknowledgements: Mapping[str, Acknowledgement],
    unlabelled: int | None,
    *,
    store_problem: str = "",
) -> Programming:
    """`stored_revision` is that of the document which is known to be stored (empty: none), `pods` are those that the
    policy selects and those bound to it (others are passed over), `acknowledgements` are by the pods' uid, and
    `unlabelled` counts pods that the policy selects and that do not ask. `store_problem`: why the document could not
    be written.
    """
    pods = [pod for pod in pods if pod.namespace == policy.namespace]
    bound = sorted((pod for pod in pods if pod.bound_policy == policy.name), key=lambda pod: pod.name)
    started = [pod for pod in bound if pod.proxy_started]
    behind = {
        pod.name: _why(policy.full_name, acknowledgements.get(pod.uid))
        for pod in started
        if not is_current(policy.full_name, stored_revision, acknowledgements.get(pod.uid))
    }
    if not judgement.revision or stored_revision != judgement.revision:
        programmed = verdict("False", "Pending", _not_stored(judgement, store_problem))
    elif not bound:
        programmed = verdict("False", "NoMatchingPods", _no_pods(policy, pods))
    elif not started:
        programmed = verdict("False", "Pending", f"No proxy has started yet, of {len(bound)}.")
    else:
        programmed = _by_answers(stored_revision, len(started), behind)
    if unlabelled:
        programmed = replace(programmed, message=f"{programmed.message} {_unlabelled_hint(unlabelled)}")
    totals = PodTotals(
        matched=None if unlabelled is None else len(_asking(policy, pods)) + unlabelled,
        unlabelled=unlabelled,
        injected=len(bound),
        current=len(started) - len(behind),
    )
    return Programming(programmed, _ready(judgement.accepted, programmed), totals)


def _ready(accepted: Verdict, programmed: Verdict) -> Verdict:
    if not accepted.holds:
        return accepted
    if not programmed.holds:
        return programmed
    return replace(programmed, reason="Ready")


def _by_answers(revision: str, started: int, behind: Mapping[str, str]) -> Verdict:
    current = started - len(behind)
    message = f"{current} of {started} proxies on revision {_short(revision)}"
    if not behind:
        return verdict("True", "Programmed", f"{message}.")
    named = [f"{name} {why}" for name, why in list(behind.items())[:_PODS_NAMED]]
    if len(behind) > _PODS_NAMED:
        named.append(f"and {len(behind) - _PODS_NAMED} more")
    return verdict("False", "PartiallyProgrammed" if current else "Pending", f"{message}: {'; '.join(named)}.")


def _why(policy: str, said: Acknowledgement | None) -> str:
    """What is against a pod whose proxy is not current. Pods are not trusted: what they say is short and one line."""
    if said is None:
        return "has not been asked yet"
    if said.problem:
        return f"has a problem: {fitted(one_line(said.problem), _PROBLEM_BYTES)}"
    if not said.revision:
        return "has no document yet"
    if said.policy != policy:
        return f"runs on policy {fitted(one_line(said.policy), _PROBLEM_BYTES)}"
    return f"runs on revision {one_line(_short(said.revision))}"


def _not_stored(judgement: Judgement, store_problem: str) -> str:
    if store_problem:
        return f"The document could not be written: {fitted(one_line(store_problem), _PROBLEM_BYTES)}"
    if not judgement.revision:
        return "There is no document: the policy is not accepted."
    return "The document is being written."


def _no_pods(policy: PolicyFacts, pods: Sequence[PodFacts]) -> str:
    if not isinstance(policy.parsed, InvalidPolicy) and policy.parsed.spec.injection.mode == "Disabled":
        return "No pod gets a proxy: spec.injection.mode is Disabled."
    asking = len(_asking(policy, pods))
    if asking:
        return (
            f"{_count(asking, 'pod')} with the label {INJECT_LABEL} matched by spec.selector and without a proxy of "
            f"this policy: restart what owns them, as by kubectl -n {policy.namespace} rollout restart deployment NAME"
        )
    return (
        f'No pod with the label {INJECT_LABEL}: "true" matches spec.selector: '
        f"kubectl -n {policy.namespace} get pods --show-labels"
    )


def _asking(policy: PolicyFacts, pods: Sequence[PodFacts]) -> list[PodFacts]:
    """Pods that ask for a proxy and would get this policy, if they were made now."""
    return [pod for pod in pods if pod.asks and pod.policy_label in ("", policy.name) and policy.selects(pod.labels)]


def _unlabelled_hint(unlabelled: int) -> str:
    return (
        f"Matched by spec.selector and not asking for a proxy: {_count(unlabelled, 'pod')}; write "
        f'{INJECT_LABEL}: "true" into the labels of the pod template.'
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _short(revision: str) -> str:
    return revision[:_REVISION_CHARACTERS]
