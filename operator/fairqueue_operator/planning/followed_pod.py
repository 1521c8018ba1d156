"""A pod whose proxy is to run on a document: what it has said of that, and when it is to be asked, and its kubelet
woken, next.

A kubelet looks at a mounted Secret when its pod changes, and by itself only once in a minute or two. So after each
write of its policy's document a pod is nudged once, whatever its proxy says, and again, with longer and longer waits,
while the proxy says that it runs on something else. After the waits have become long, or when the proxy refuses what
it was given or does not answer, nudging helps no more, and every nudge is a write to the API server.

The proxy is asked soon after each nudge. An answer counts only if it was asked for after the last write. One that gave
the right answer is asked a few times more: its kubelet may have read the document before the last, and bring it yet.
One that does not answer is asked seldomer and seldomer.
"""

from dataclasses import dataclass
from re import compile as pattern
from typing import Final

from .pod_facts import PodFacts
from .programming import Acknowledgement, is_current
from .turns import PolicyName

# A question soon after a nudge, and the longest wait for the next while the answer is not the right one.
SOON_SECONDS: Final = 0.2
LONGEST_SECONDS: Final = 60.0
# Questions to one that gave the right answer, from the last write or nudge on, and then one in so many seconds.
CHECKS_SECONDS: Final = (1.0, 2.0, 5.0, 15.0, 40.0, 90.0)
SETTLED_SECONDS: Final = 300.0
# From question to question while there is no answer.
SILENT_SECONDS: Final = (1.0, 3.0, 9.0, 27.0, 81.0, 243.0)
# One that has not been heard at all is not held against its policy for so long.
GRACE_SECONDS: Final = 20.0
# From nudge to nudge; after these, one in so many seconds.
NUDGE_WAITS_SECONDS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0)
SELDOM_SECONDS: Final = 600.0
NUDGES_IN_VAIN: Final = 3
"""So often, after a write, is a pod nudged whose proxy has a problem."""
_REVISION_CHARACTERS: Final = 12
_VALUE: Final = pattern(rf"([0-9a-f]{{{_REVISION_CHARACTERS}}})\.([0-9]{{1,6}})")


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """The proxy at that address is to be asked."""

    policy: PolicyName
    uid: str
    address: str


@dataclass(frozen=True, slots=True, eq=False)
class Nudge:
    """The annotation is to be given that value, which it has not had yet."""

    policy: PolicyName
    uid: str
    pod: str
    value: str


@dataclass(slots=True)
class FollowedPod:
    """See the module's text. Times are seconds of one clock that never goes back."""

    policy: PolicyName
    facts: PodFacts
    revision: str
    """What it is to run on; empty if nothing is stored."""
    followed_from: float
    since: float
    """When it had a reason to say something else last."""
    nudge_from: float
    value: str
    """The annotation's: as it was found, or as it was given last."""
    nudges: int
    nudges_failed: int = 0
    is_owed: bool = False
    """The nudge that follows each write is still to come."""
    said: Acknowledgement | None = None
    is_heard: bool = False
    silences: int = 0
    question: Question | None = None
    """Under way, and its answer still counts. So with a nudge."""
    nudge: Nudge | None = None

    @classmethod
    def begin(cls, policy: PolicyName, facts: PodFacts, revision: str, now: float) -> "FollowedPod":
        """One of which nothing is known yet, but how often it was nudged by an operator that is not there any more."""
        return cls(policy, facts, revision, now, now, now, facts.nudge, _number(facts.nudge, revision))

    def expect(self, revision: str, is_written: bool, now: float) -> None:
        """It is to run on that: another revision, or `is_written`, or both."""
        self.revision, self.since = revision, now
        self.nudge, self.nudge_from, self.nudges_failed = None, now, 0
        self.nudges = 0 if is_written else _number(self.value, revision)
        self.is_owed = is_written
        if is_written:
            self.question = None
            # That there was no answer stays as true as it was.
            self.said = None if self.said is not None and self.said.answered else self.said

    def begin_anew(self, now: float) -> None:
        """Another process has its place: what the last one said is void."""
        self.followed_from, self.since = now, now
        self.said, self.is_heard, self.silences, self.question = None, False, 0, None

    def ask(self) -> Question:
        """It is asked now."""
        self.question = Question(self.policy, self.facts.uid, self.facts.address)
        return self.question

    def hear(self, said: Acknowledgement) -> bool:
        """The answer. Returns whether it differs from the one before."""
        before, self.said = self.said, said
        self.question, self.is_heard = None, True
        self.silences = 0 if said.answered else self.silences + 1
        return said != before

    def wait_seconds(self, now: float) -> float:
        """From an answer to the next question."""
        elapsed = now - self.since
        if self.silences:
            return _nth(SILENT_SECONDS, self.silences, SETTLED_SECONDS)
        if self._is_current():
            waits = (at - elapsed for at in CHECKS_SECONDS)
            return next((wait for wait in waits if wait >= SOON_SECONDS), SETTLED_SECONDS)
        return min(max(SOON_SECONDS, elapsed), LONGEST_SECONDS)

    def begin_nudge(self) -> Nudge:
        """It is nudged now."""
        self.is_owed = False
        self.value = f"{self.revision[:_REVISION_CHARACTERS]}.{_number(self.value, self.revision)}"
        self.nudge = Nudge(self.policy, self.facts.uid, self.facts.name, self.value)
        return self.nudge

    def end_nudge(self, is_done: bool, now: float) -> None:
        """It was written; or it could not be, and is still to be."""
        self.nudge = None
        if is_done:
            self.nudges, self.nudges_failed, self.since = self.nudges + 1, 0, now
            self.nudge_from = now + _nth(NUDGE_WAITS_SECONDS, self.nudges, SELDOM_SECONDS)
        else:
            self.is_owed, self.nudges_failed = True, self.nudges_failed + 1
            self.nudge_from = now + _nth(NUDGE_WAITS_SECONDS, self.nudges_failed, NUDGE_WAITS_SECONDS[-1])

    def needs_nudge(self) -> bool:
        """One that was not asked yet does not: a new operator must not write to each pod that is as it should be."""
        if self.nudge is not None or not self.revision:
            return False
        if self.is_owed:
            return True
        if self.said is None or self._is_current():
            return False
        return self.said.problem == "" or self.nudges < NUDGES_IN_VAIN

    def is_unheard(self, now: float) -> bool:
        """It was not heard at all yet, and is followed for no longer than the grace."""
        return not self.is_heard and now < self.followed_from + GRACE_SECONDS

    def _is_current(self) -> bool:
        return is_current("/".join(self.policy), self.revision, self.said)


def _nth(waits: tuple[float, ...], number: int, then: float) -> float:
    """The wait after the first, second, ..."""
    return waits[number - 1] if number <= len(waits) else then


def _number(value: str, revision: str) -> int:
    """Of the next nudge for that revision, by the annotation's value."""
    found = _VALUE.fullmatch(value)
    return int(found[2]) + 1 if found is not None and found[1] == revision[:_REVISION_CHARACTERS] else 0
