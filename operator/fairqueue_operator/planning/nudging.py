"""Which pods' kubelets are to be woken, and when.

A kubelet looks at a mounted Secret when its pod changes, and by itself only once in a minute or two. It may see the
pod's change before the Secret's, so a nudge is repeated, with longer and longer waits, until the proxy says that it
runs on the new revision. All pods of all policies share one allowance; who has waited longest is served first.

A proxy that does not answer, or that says that it cannot use what it was given, is nudged a few times, as its
document may have changed since, and then no more: its file is new by then, and every nudge is a write to the API
server.
"""

import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Final

from .pod_facts import PodFacts
from .programming import Acknowledgement, is_current

NUDGES_PER_SECOND: Final = 100
"""At most, in any second."""
LONGEST_WAIT_SECONDS: Final = 30.0
TRIES_IN_VAIN: Final = 3
"""So often is a pod nudged whose proxy has a problem."""
_REVISION_CHARACTERS: Final = 12
# From here on a wait would be longer than the longest; the exponent stays small, whatever an annotation says.
_DOUBLINGS: Final = 5
_VALUE = re.compile(rf"([0-9a-f]{{{_REVISION_CHARACTERS}}})\.([0-9]{{1,6}})")

PolicyName = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class Nudge:
    """The annotation is to be given that value, which it has not had yet."""

    policy: PolicyName
    namespace: str
    pod: str
    uid: str
    value: str


@dataclass(slots=True)
class _Behind:
    """A pod that is to run on `revision` and does not."""

    policy: PolicyName
    pod: PodFacts
    revision: str
    tries: int
    due: float
    has_problem: bool

    @property
    def due_if_any(self) -> float:
        return inf if self.has_problem and self.tries >= TRIES_IN_VAIN else self.due


class NudgeSchedule:
    """See the module's text. Times are seconds of one clock that never goes back."""

    def __init__(self) -> None:
        self._behind: dict[PolicyName, dict[str, _Behind]] = {}
        # When the last ones were; no more of them than may be in a second.
        self._recent: deque[float] = deque(maxlen=NUDGES_PER_SECOND)

    def want(
        self,
        policy: PolicyName,
        revision: str,
        pods: Iterable[PodFacts],
        acknowledgements: Mapping[str, Acknowledgement],
        now: float,
    ) -> None:
        """The policy's pods are to run on the `revision` that is stored; replaces what was wanted of it before.

        Passed over are pods that are bound to another policy, whose proxy has not started, that have not been asked
        yet, or that are current. Without a revision, or without pods, nothing is wanted any more.
        """
        before = self._behind.pop(policy, {})
        behind = {
            pod.uid: _next(before.get(pod.uid), policy, pod, revision, acknowledgements[pod.uid], now)
            for pod in pods
            if revision
            and (pod.namespace, pod.bound_policy) == policy
            and pod.proxy_started
            and pod.uid in acknowledgements
            and not is_current("/".join(policy), revision, acknowledgements[pod.uid])
        }
        if behind:
            self._behind[policy] = behind

    def due(self, now: float) -> list[Nudge]:
        """What is to be done now; it is taken for done."""
        waiting = [each for pods in self._behind.values() for each in pods.values() if each.due_if_any <= now]
        waiting.sort(key=lambda each: (each.due, each.policy, each.pod.uid))
        nudges = []
        for each in waiting:
            if now < self._allowed_at():
                break
            self._recent.append(now)
            value = f"{each.revision[:_REVISION_CHARACTERS]}.{each.tries}"
            nudges.append(Nudge(each.policy, each.pod.namespace, each.pod.name, each.pod.uid, value))
            each.due = now + min(2.0 ** min(each.tries, _DOUBLINGS), LONGEST_WAIT_SECONDS)
            each.tries += 1
        return nudges

    def next_at(self) -> float | None:
        """When `due` has something next; None: not before something else is wanted."""
        first = min((each.due_if_any for pods in self._behind.values() for each in pods.values()), default=inf)
        return None if first == inf else max(first, self._allowed_at())

    def _allowed_at(self) -> float:
        return self._recent[0] + 1.0 if len(self._recent) == NUDGES_PER_SECOND else -inf


def _next(
    before: _Behind | None, policy: PolicyName, pod: PodFacts, revision: str, said: Acknowledgement, now: float
) -> _Behind:
    """For a new revision a pod keeps its place in the queue, but not its waits."""
    has_problem = said.problem != ""
    if before is None:
        return _Behind(policy, pod, revision, _tries(pod.nudge, revision), now, has_problem)
    if before.revision != revision:
        return _Behind(policy, pod, revision, _tries(pod.nudge, revision), min(before.due, now), has_problem)
    return _Behind(policy, pod, revision, before.tries, before.due, has_problem)


def _tries(value: str, revision: str) -> int:
    """How often the pod was nudged for that revision, by an operator that is not there any more."""
    found = _VALUE.fullmatch(value)
    return int(found[2]) + 1 if found is not None and found[1] == revision[:_REVISION_CHARACTERS] else 0
