"""Asks proxies and wakes kubelets, as and when `planning.following` says: the annotation on a pod has its kubelet look
at the pod's files at once.

`follow` says which pods of a policy are to run on what, and returns what is known of them; `run` does the work, and
has each policy looked at again for which an answer differs from the one before, in so many seconds.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from math import inf
from typing import Final, Protocol

from . import log_lines
from .cluster_model import ClusterError, NotFound
from .planning.followed_pod import Nudge, Question
from .planning.following import Following, Heard
from .planning.pod_facts import PodFacts
from .planning.programming import Acknowledgement
from .store import PolicyKey

# The answers of many pods are looked at together.
TOGETHER_SECONDS: Final = 0.1

Ask = Callable[[str], Awaitable[Acknowledgement]]
"""What the proxy at an address says. Never raises, and takes no longer than seconds."""


class PodNudger(Protocol):
    """What is needed of the API server."""

    async def nudge_pod(self, namespace: str, pod: str, value: str) -> None: ...


class Follower:
    """See the module's text."""

    def __init__(
        self,
        cluster: PodNudger,
        ask: Ask,
        look_again: Callable[[PolicyKey, float], None],
        monotonic: Callable[[], float],
        jitter: random.Random,
        written: Callable[[], None],
    ) -> None:
        self._cluster = cluster
        self._ask = ask
        self._look_again = look_again
        self._monotonic = monotonic
        self._written = written
        self._following = Following(jitter.random)
        self._news = asyncio.Event()

    def follow(self, key: PolicyKey, revision: str, version: str, pods: Iterable[PodFacts]) -> Heard:
        """As `Following.follow`. The pods have an address, and a proxy of that policy that has started."""
        heard = self._following.follow(key, revision, version, pods, self._monotonic())
        self._news.set()
        return heard

    def forget(self, key: PolicyKey) -> None:
        """The policy is gone."""
        self._following.forget(key)

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as under_way:
            while True:
                self._news.clear()
                now = self._monotonic()
                while (question := self._following.question(now)) is not None:
                    under_way.create_task(self._ask_one(question))
                while (nudge := self._following.nudge(now)) is not None:
                    under_way.create_task(self._nudge(nudge))
                next_at = self._following.next_at()
                try:
                    async with asyncio.timeout(None if next_at == inf else max(0.0, next_at - self._monotonic())):
                        await self._news.wait()
                except TimeoutError:
                    pass

    async def _ask_one(self, question: Question) -> None:
        said = await self._ask(question.address)
        is_news = self._following.answered(question, said, self._monotonic())
        self._news.set()
        if is_news:
            self._look_again(PolicyKey(*question.policy), TOGETHER_SECONDS)

    async def _nudge(self, nudge: Nudge) -> None:
        is_done = await self._write(nudge)
        self._following.nudged(nudge, is_done, self._monotonic())
        self._news.set()

    async def _write(self, nudge: Nudge) -> bool:
        where = {"namespace": nudge.policy[0], "pod": nudge.pod}
        try:
            await self._cluster.nudge_pod(nudge.policy[0], nudge.pod, nudge.value)
        except NotFound:
            # Its event is on the way.
            return True
        except ClusterError as error:
            log_lines.warning("a pod could not be nudged", **where, error=str(error))
            return False
        self._written()
        return True
