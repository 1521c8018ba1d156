"""Whether the pods run on what was decided: the conditions Programmed and Ready, and how many pods do.

Never ahead of the facts: only what a proxy has said itself counts. Proxies that have not started yet do not count
against it, or every rollout would take Ready away.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from ..admission import one_line
from ..text_limits import fitted
from .judging import Judgement, not_written
from .missing_proxies import asking, hints, no_pods
from .pod_facts import PodFacts
from .policy_facts import PolicyFacts
from .verdicts import Verdict, first_named, verdict

# Of what a pod says about itself.
_PROBLEM_BYTES: Final = 300
_REVISION_CHARACTERS: Final = 12
_REFUSED: Final = " (refused by "


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What a pod's proxy said last of the document that it runs on."""

    policy: str
    """namespace/name; empty if there is none, or no answer."""
    revision: str
    problem: str
    """Why there is no answer, or why the proxy cannot use what it was given last; empty if all is well."""
    answered: bool = True
    """Whether a proxy said so: the problem is its own, then."""

    @property
    def refuses(self) -> bool:
        """A proxy said that it cannot use what it was given."""
        return self.answered and self.problem != ""


@dataclass(frozen=True, slots=True)
class PodTotals:
    """The counts of the status. None: not counted yet."""

    matched: int | None
    unlabelled: int | None
    injected: int
    started: int
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
        pod.name: acknowledgements.get(pod.uid)
        for pod in started
        if not is_current(policy.full_name, stored_revision, acknowledgements.get(pod.uid))
    }
    if store_problem:
        programmed = not_written(policy.namespace, fitted(one_line(store_problem), _PROBLEM_BYTES))
    elif not judgement.revision or stored_revision != judgement.revision:
        programmed = verdict("False", "Pending", _not_stored(judgement))
    elif not bound:
        programmed = verdict("False", "NoMatchingPods", no_pods(policy, pods))
    elif not started:
        programmed = verdict("False", "Pending", f"No proxy has started yet, of {len(bound)}.")
    else:
        programmed = _by_answers(policy, stored_revision, len(started), behind)
    past_it = hints(policy, pods if bound else (), unlabelled or 0)
    programmed = replace(programmed, message=" ".join([programmed.message, *past_it]))
    totals = PodTotals(
        matched=None if unlabelled is None else len(asking(policy, pods)) + unlabelled,
        unlabelled=unlabelled,
        injected=len(bound),
        started=len(started),
        current=len(started) - len(behind),
    )
    return Programming(programmed, _ready(judgement.accepted, programmed), totals)


def _ready(accepted: Verdict, programmed: Verdict) -> Verdict:
    if not accepted.holds:
        return accepted
    if not programmed.holds:
        return programmed
    return replace(programmed, reason="Ready")


def tells_of_refusals(message: str) -> bool:
    """Whether that message of Programmed, in its own part and not in what pods say, counts proxies that refuse."""
    return _REFUSED in message.partition(":")[0]


def _by_answers(
    policy: PolicyFacts, revision: str, started: int, behind: Mapping[str, Acknowledgement | None]
) -> Verdict:
    current = started - len(behind)
    message = f"{current} of {started} proxies on revision {_short(revision)}"
    if not behind:
        return verdict("True", "Programmed", f"{message}.")
    refusing = [name for name, said in behind.items() if said is not None and said.refuses]
    named = first_named(
        f"{name} {_why(policy.full_name, behind[name])}" for name in dict.fromkeys([*refusing, *behind])
    )
    reason = "Pending"
    if current:
        reason = "PartiallyProgrammed"
    elif refusing:
        reason = "ProxiesRefuse"
    refused = f"{_REFUSED}{len(refusing)})" if refusing else ""
    return verdict("False", reason, f"{message}{refused}: {named}.")


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


def _not_stored(judgement: Judgement) -> str:
    if not judgement.revision:
        return "There is no document: the policy is not accepted."
    return "The document is being written."


def _short(revision: str) -> str:
    return revision[:_REVISION_CHARACTERS]
