"""What each pod's proxy said last of the document that it runs on, kept true by asking: soon and often while a pod is
behind, seldom when it is not.

`follow` says which pods of a policy are to be asked, and what revision is hoped for; `run` asks, and reports each
policy for which an answer differs from the one before.
"""

import asyncio
import heapq
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from .planning.programming import Acknowledgement
from .store import PolicyKey

# A pod that is behind: the first question, and the longest wait between two.
SOON_SECONDS: Final = 0.2
LONGEST_SECONDS: Final = 10.0
# One that is not: proxies that lost their document somehow are found in that time.
CURRENT_SECONDS: Final = 300.0

Ask = Callable[[str], Awaitable[Acknowledgement]]


@dataclass(frozen=True, slots=True)
class Followed:
    """A pod whose proxy is to be asked. Another `incarnation` is another process: what the last one said is void."""

    uid: str
    address: str
    incarnation: int


@dataclass(slots=True)
class _Asked:
    pod: Followed
    hoped_for: str
    wait_seconds: float = SOON_SECONDS
    due: float = 0.0
    said: Acknowledgement | None = None


@dataclass(slots=True)
class _OfPolicy:
    asked: dict[str, _Asked] = field(default_factory=dict)


class Acknowledgements:
    """See the module's text."""

    def __init__(
        self, ask: Ask, changed: Callable[[PolicyKey], None], monotonic: Callable[[], float], jitter: random.Random
    ) -> None:
        self._ask = ask
        self._changed = changed
        self._monotonic = monotonic
        self._jitter = jitter
        self._policies: dict[PolicyKey, _OfPolicy] = {}
        # When, whose, which. What was followed anew since, or is not any more, is passed over.
        self._due: list[tuple[float, PolicyKey, str]] = []
        self._earlier = asyncio.Event()

    def follow(self, key: PolicyKey, pods: Mapping[str, Followed], hoped_for: str) -> None:
        """These pods, by uid, and no others of that policy, are asked until they say `hoped_for`."""
        if not pods:
            self._policies.pop(key, None)
            return
        known = self._policies.setdefault(key, _OfPolicy()).asked
        for uid in [uid for uid in known if uid not in pods]:
            del known[uid]
        for uid, pod in pods.items():
            asked = known.get(uid)
            if asked is None or asked.pod != pod:
                known[uid] = asked = _Asked(pod, hoped_for)
                self._put(key, asked, self._jitter.uniform(0, SOON_SECONDS))
            elif asked.hoped_for != hoped_for:
                asked.hoped_for = hoped_for
                self.hasten(key, uid)

    def hasten(self, key: PolicyKey, uid: str) -> None:
        """The pod has reason to say something else soon: its proxy was nudged."""
        policy = self._policies.get(key)
        asked = None if policy is None else policy.asked.get(uid)
        if asked is not None:
            asked.wait_seconds = SOON_SECONDS
            self._put(key, asked, SOON_SECONDS)

    def of(self, key: PolicyKey) -> dict[str, Acknowledgement]:
        """By uid, what those that were asked have said; of those not asked yet, nothing."""
        policy = self._policies.get(key)
        if policy is None:
            return {}
        return {uid: asked.said for uid, asked in policy.asked.items() if asked.said is not None}

    async def run(self) -> None:
        """Asks, for ever."""
        async with asyncio.TaskGroup() as asking:
            while True:
                key, asked = await self._next()
                asking.create_task(self._ask_one(key, asked))

    async def _next(self) -> tuple[PolicyKey, _Asked]:
        while True:
            self._earlier.clear()
            wait: float | None = None
            while self._due:
                due, key, uid = self._due[0]
                policy = self._policies.get(key)
                asked = None if policy is None else policy.asked.get(uid)
                if asked is None or asked.due != due:
                    heapq.heappop(self._due)
                    continue
                if (wait := due - self._monotonic()) > 0:
                    break
                heapq.heappop(self._due)
                asked.due = float("inf")
                return key, asked
            try:
                async with asyncio.timeout(wait):
                    await self._earlier.wait()
            except TimeoutError:
                pass

    async def _ask_one(self, key: PolicyKey, asked: _Asked) -> None:
        said = await self._ask(asked.pod.address)
        policy = self._policies.get(key)
        if policy is None or policy.asked.get(asked.pod.uid) is not asked:
            return
        before, asked.said = asked.said, said
        if asked.due == float("inf"):
            is_current = said.revision == asked.hoped_for and not said.problem
            wait = CURRENT_SECONDS if is_current else asked.wait_seconds
            asked.wait_seconds = min(asked.wait_seconds * 2, LONGEST_SECONDS)
            self._put(key, asked, wait * self._jitter.uniform(0.8, 1.0))
        if said != before:
            self._changed(key)

    def _put(self, key: PolicyKey, asked: _Asked, seconds: float) -> None:
        asked.due = self._monotonic() + seconds
        heapq.heappush(self._due, (asked.due, key, asked.pod.uid))
        self._earlier.set()
