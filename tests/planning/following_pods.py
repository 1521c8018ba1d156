"""Pods whose proxies are asked and whose kubelets are nudged, in the time of a story: no asyncio, no waiting."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from fairqueue_operator.planning.followed_pod import Nudge, Question
from fairqueue_operator.planning.following import Following, Heard
from fairqueue_operator.planning.pod_facts import PodFacts
from fairqueue_operator.planning.programming import Acknowledgement
from planning.making import REVISION, pod

CHAT = "team", "chat"
NEXT = "b" * 64
BEHIND = Acknowledgement("team/chat", "0" * 64, "")
CURRENT = Acknowledgement("team/chat", REVISION, "")
REFUSING = Acknowledgement("team/chat", "0" * 64, "document: schema: is not 1")
SILENT = Acknowledgement("", "", "no answer at 10.0.0.7:9820", answered=False)


def bound(number: int = 1, policy: tuple[str, str] = CHAT, restarts: int = 0) -> PodFacts:
    """A pod whose proxy has started."""
    facts = pod(f"{policy[1]}-{number}", bound=policy[1])
    return replace(facts, namespace=policy[0], uid="/".join([policy[0], facts.name]), proxy_restarts=restarts)


@dataclass
class Story:
    """What happens, in its order, to those who are followed. What proxies say, and whether nudges can be written, may
    be changed as it goes on; both take no time unless it is given."""

    following: Following = field(default_factory=lambda: Following(lambda: 0.0))
    now: float = 0.0
    says: Callable[[Question], Acknowledgement] = lambda question: BEHIND
    asking_takes: Callable[[Question], float] = lambda question: 0.0
    writes: Callable[[Nudge], bool] = lambda nudge: True
    writing_takes: Callable[[Nudge], float] = lambda nudge: 0.0
    asked: list[tuple[float, str]] = field(default_factory=list)
    answered: list[tuple[float, str]] = field(default_factory=list)
    nudged: list[tuple[float, Nudge]] = field(default_factory=list)
    _under_way: list[tuple[float, int, Callable[[], Any]]] = field(default_factory=list)
    _numbers: Any = field(default_factory=count)

    def follow(
        self, pods: list[PodFacts], revision: str = REVISION, version: str = "1", policy: tuple[str, str] = CHAT
    ) -> Heard:
        heard = self.following.follow(policy, revision, version, pods, self.now)
        self._check()
        return heard

    def run(self, until: float) -> None:
        """All that comes up to then, by somebody who looks when told to."""
        self._start()
        while (at := self._next_at()) <= until:
            self.now = max(self.now, at)
            while self._under_way and self._under_way[0][0] <= self.now:
                heapq.heappop(self._under_way)[2]()
            self._start()
        self.now = until
        self._check()

    def _check(self) -> None:
        """Each pod is being asked, or will be; and so with nudges, where one is needed."""
        following = self.following
        for name, policy in following._policies.items():
            for uid, it in policy.pods.items():
                assert (it.question is None) == ((name, uid) in following._questions._due)
                assert it.needs_nudge() == ((name, uid) in following._nudges._due)

    def _next_at(self) -> float:
        ends_at = self._under_way[0][0] if self._under_way else float("inf")
        return min(ends_at, self.following.next_at())

    def _start(self) -> None:
        while (question := self.following.question(self.now)) is not None:
            self.asked.append((self.now, question.uid))
            # What it says, it says when it is asked.
            self._later(self.asking_takes(question), self._answer, question, self.says(question))
        while (nudge := self.following.nudge(self.now)) is not None:
            self.nudged.append((self.now, nudge))
            self._later(self.writing_takes(nudge), self._wrote, nudge)

    def _later(self, seconds: float, do: Callable[..., Any], *args: Any) -> None:
        heapq.heappush(self._under_way, (self.now + seconds, next(self._numbers), lambda: do(*args)))

    def _answer(self, question: Question, said: Acknowledgement) -> None:
        if self.following.answered(question, said, self.now):
            self.answered.append((self.now, question.uid))

    def _wrote(self, nudge: Nudge) -> None:
        self.following.nudged(nudge, self.writes(nudge), self.now)

    def values(self) -> list[str]:
        return [nudge.value for _, nudge in self.nudged]

    def nudged_at(self) -> list[float]:
        return [at for at, _ in self.nudged]

    def asked_at(self) -> list[float]:
        return [round(at, 3) for at, _ in self.asked]
