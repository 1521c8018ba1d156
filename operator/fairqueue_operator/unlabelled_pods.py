"""How many pods each policy's selector matches that do not ask for a proxy: counted by a list now and then.

They are not watched: those would be all pods of the cluster. A count that failed stays what it was.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from fairqueue_api.models import Selector

from . import log_lines
from .cluster_model import ClusterError
from .store import PolicyKey

COUNT_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 0.05


class PodCounter(Protocol):
    """What is needed of the API server."""

    async def count_unlabelled_pods(self, namespace: str, selector: Selector) -> int: ...


class UnlabelledPods:
    """The last count of each policy that is there."""

    def __init__(
        self,
        cluster: PodCounter,
        wanted: Callable[[], Iterable[tuple[PolicyKey, Selector]]],
        changed: Callable[[PolicyKey], None],
        jitter: random.Random,
    ) -> None:
        self._cluster = cluster
        self._wanted = wanted
        self._changed = changed
        self._jitter = jitter
        # With the selector that was counted by.
        self._counted: dict[PolicyKey, tuple[Selector, int]] = {}
        self._asked_for = asyncio.Event()
        self.is_failing = False

    def of(self, key: PolicyKey, selector: Selector) -> int | None:
        """None: not counted yet by that selector, which is then done soon."""
        counted = self._counted.get(key)
        if counted is not None and counted[0] == selector:
            return counted[1]
        self._asked_for.set()
        return None

    async def run(self) -> None:
        """Counts for ever: all policies once a minute, new selectors at once."""
        loop = asyncio.get_running_loop()
        all_at = loop.time()
        while True:
            self._asked_for.clear()
            every = loop.time() >= all_at
            if every:
                all_at = loop.time() + COUNT_SECONDS * self._jitter.uniform(0.9, 1.1)
            await self._count(every)
            try:
                async with asyncio.timeout_at(all_at):
                    # New policies come in crowds.
                    await self._asked_for.wait()
                    await asyncio.sleep(_PAUSE_SECONDS)
            except TimeoutError:
                pass

    async def _count(self, every: bool) -> None:
        wanted = dict(self._wanted())
        for key in [key for key in self._counted if key not in wanted]:
            del self._counted[key]
        for key, selector in wanted.items():
            before = self._counted.get(key)
            if not every and before is not None and before[0] == selector:
                continue
            try:
                count = await self._cluster.count_unlabelled_pods(key.namespace, selector)
            except ClusterError as error:
                if not self.is_failing:
                    log_lines.warning("pods without the label cannot be counted", error=str(error))
                self.is_failing = True
                return
            self.is_failing = False
            self._counted[key] = selector, count
            if before != (selector, count):
                self._changed(key)
