"""How many pods each policy's selector matches that do not ask for a proxy: counted by a list now and then.

They are not watched: those would be all pods of the cluster. A count that failed stays what it was. Where the API
server does not answer, the others are not tried either; what it refuses concerns that policy only.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from fairqueue_api.models import Selector

from . import log_lines
from .cluster_model import ClusterError, Unreachable
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
        # Likewise, of counts that the API server refused.
        self._refused: dict[PolicyKey, Selector] = {}
        self._asked_for = asyncio.Event()
        self._is_unreachable = False

    def of(self, key: PolicyKey, selector: Selector) -> int | None:
        """None: not counted yet by that selector, which is then done soon."""
        counted = self._counted.get(key)
        if counted is not None and counted[0] == selector:
            return counted[1]
        if self._refused.get(key) != selector:
            self._refused.pop(key, None)
            self._asked_for.set()
        return None

    def has_failed(self, key: PolicyKey) -> bool:
        """Whether there is no hope of a count soon: it was refused, or the API server does not answer."""
        return self._is_unreachable or key in self._refused

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
        self._counted = {key: counted for key, counted in self._counted.items() if key in wanted}
        self._refused = {key: refused for key, refused in self._refused.items() if key in wanted}
        for key, selector in wanted.items():
            if not every and selector in (self._counted.get(key, (None, 0))[0], self._refused.get(key)):
                continue
            try:
                count = await self._cluster.count_unlabelled_pods(key.namespace, selector)
            except Unreachable as error:
                if not self._is_unreachable:
                    log_lines.warning("pods without the label cannot be counted", error=str(error))
                self._is_unreachable = True
                return
            except ClusterError as error:
                self._is_unreachable = False
                self._refuse(key, selector, error)
            else:
                self._is_unreachable = False
                self._take(key, selector, count)

    def _take(self, key: PolicyKey, selector: Selector, count: int) -> None:
        self._refused.pop(key, None)
        before, self._counted[key] = self._counted.get(key), (selector, count)
        if before != (selector, count):
            self._changed(key)

    def _refuse(self, key: PolicyKey, selector: Selector, error: ClusterError) -> None:
        before, self._refused[key] = self._refused.get(key), selector
        if before != selector:
            place = {"namespace": key.namespace, "policy": key.name}
            log_lines.warning("a policy's pods without the label cannot be counted", **place, error=str(error))
            # Its status may have waited for the count.
            self._changed(key)
