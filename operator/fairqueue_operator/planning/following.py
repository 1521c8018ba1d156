"""Which proxies are asked and which kubelets are woken next, of all pods of all policies.

What a pod needs and when, it says itself (`followed_pod`); here they take turns, so that pods that do not answer or
cannot be written to keep nobody else waiting, and all nudges together stay within their rate (`turns`).
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Final

from .followed_pod import CHECKS_SECONDS, SOON_SECONDS, FollowedPod, Nudge, Question
from .pod_facts import PodFacts
from .programming import Acknowledgement
from .turns import PolicyName, Turns

ASKED_AT_ONCE: Final = 32
_ASKED_OF_A_NAMESPACE: Final = 16
NUDGES_PER_SECOND: Final = 100
"""At most, in any second."""
_NUDGED_AT_ONCE: Final = 64
_NUDGED_OF_A_NAMESPACE: Final = 8


@dataclass(frozen=True, slots=True)
class Heard:
    """What is known of a policy's proxies."""

    said: Mapping[str, Acknowledgement]
    """By the pod's uid, the answers that count."""
    unheard: frozenset[str]
    """Pods that were not heard at all yet, and are followed for no longer than the grace."""
    is_early: bool
    """Some of these were there when the policy began to be followed: what is known of it is not all."""


@dataclass(slots=True)
class _Policy:
    followed_from: float
    revision: str = ""
    version: str = ""
    pods: dict[str, FollowedPod] = field(default_factory=dict)


class Following:
    """See the module's text. Times are seconds of one clock that never goes back; `jitter` gives 0 to 1."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._policies: dict[PolicyName, _Policy] = {}
        self._questions = Turns(ASKED_AT_ONCE, _ASKED_OF_A_NAMESPACE)
        self._nudges = Turns(_NUDGED_AT_ONCE, _NUDGED_OF_A_NAMESPACE)
        # When the last nudges were; no more of them than may be in a second.
        self._recent: deque[float] = deque(maxlen=NUDGES_PER_SECOND)

    def follow(self, name: PolicyName, revision: str, version: str, pods: Iterable[PodFacts], now: float) -> Heard:
        """These pods, and no others, are to run on the revision that is stored for their policy. Another `version` of
        what is stored is another write. Both are empty while nothing is known to be stored."""
        policy = self._policies.setdefault(name, _Policy(now))
        is_written = version != "" and policy.version not in ("", version)
        is_other = is_written or revision != policy.revision
        policy.revision, policy.version = revision, version or policy.version
        wanted = {facts.uid: facts for facts in pods}
        for uid in policy.pods.keys() - wanted.keys():
            self._drop(policy.pods.pop(uid))
        for uid, facts in wanted.items():
            pod = policy.pods.get(uid)
            if pod is None:
                policy.pods[uid] = pod = FollowedPod.begin(name, facts, revision, now)
                self._ask_in(pod, now, self._jitter() * SOON_SECONDS)
            elif is_other:
                self._expect(pod, revision, is_written, now)
            is_another = _process(facts) != _process(pod.facts)
            pod.facts = facts
            if is_another:
                pod.begin_anew(now)
                self._ask_in(pod, now, self._jitter() * SOON_SECONDS)
            self._plan_nudge(pod)
        return _heard(policy, now)

    def forget(self, name: PolicyName) -> None:
        """The policy is gone."""
        policy = self._policies.pop(name, None)
        for pod in policy.pods.values() if policy is not None else ():
            self._drop(pod)

    def question(self, now: float) -> Question | None:
        """The next to be asked now, if any is; `answered` follows."""
        pod = self._taken(self._questions, now)
        return None if pod is None else pod.ask()

    def answered(self, question: Question, said: Acknowledgement, now: float) -> bool:
        """Whether that is another answer than the one before, and counts."""
        self._questions.done(question.policy)
        pod = self._find(question.policy, question.uid)
        if pod is None or pod.question is not question:
            return False
        is_other = pod.hear(said)
        self._ask_in(pod, now, pod.wait_seconds(now) * (1.0 + 0.1 * self._jitter()))
        self._plan_nudge(pod)
        return is_other

    def nudge(self, now: float) -> Nudge | None:
        """The next to be nudged now, if any is; `nudged` follows."""
        pod = None if now < self._allowed_at() else self._taken(self._nudges, now)
        if pod is None:
            return None
        self._recent.append(now)
        return pod.begin_nudge()

    def nudged(self, nudge: Nudge, is_done: bool, now: float) -> None:
        """It was written, or could not be."""
        self._nudges.done(nudge.policy)
        pod = self._find(nudge.policy, nudge.uid)
        if pod is None or pod.nudge is not nudge:
            return
        pod.end_nudge(is_done, now)
        if is_done and pod.question is None and not pod.silences:
            self._ask_in(pod, now, SOON_SECONDS)
        self._plan_nudge(pod)

    def next_at(self) -> float:
        """When there is a question or a nudge next, if nothing happens before."""
        return min(self._questions.next_at(), max(self._nudges.next_at(), self._allowed_at()))

    def _expect(self, pod: FollowedPod, revision: str, is_written: bool, now: float) -> None:
        was_being_asked = pod.question is not None
        pod.expect(revision, is_written, now)
        # It is no reason to ask those sooner that do not answer.
        if pod.question is None and (was_being_asked or not pod.silences):
            self._ask_in(pod, now, CHECKS_SECONDS[0])

    def _ask_in(self, pod: FollowedPod, now: float, seconds: float) -> None:
        self._questions.put(pod.policy, pod.facts.uid, now + seconds)

    def _plan_nudge(self, pod: FollowedPod) -> None:
        if pod.needs_nudge():
            self._nudges.put(pod.policy, pod.facts.uid, pod.nudge_from)
        else:
            self._nudges.drop(pod.policy, pod.facts.uid)

    def _drop(self, pod: FollowedPod) -> None:
        self._questions.drop(pod.policy, pod.facts.uid)
        self._nudges.drop(pod.policy, pod.facts.uid)

    def _taken(self, turns: Turns, now: float) -> FollowedPod | None:
        taken = turns.take(now)
        return None if taken is None else self._policies[taken[0]].pods[taken[1]]

    def _find(self, name: PolicyName, uid: str) -> FollowedPod | None:
        policy = self._policies.get(name)
        return None if policy is None else policy.pods.get(uid)

    def _allowed_at(self) -> float:
        return self._recent[0] + 1.0 if len(self._recent) == NUDGES_PER_SECOND else -inf


def _heard(policy: _Policy, now: float) -> Heard:
    said = {uid: pod.said for uid, pod in policy.pods.items() if pod.said is not None}
    unheard = {uid: pod for uid, pod in policy.pods.items() if pod.is_unheard(now)}
    is_early = any(pod.followed_from == policy.followed_from for pod in unheard.values())
    return Heard(said, frozenset(unheard), is_early)


def _process(facts: PodFacts) -> tuple[str, int]:
    return facts.address, facts.proxy_restarts
