"""A `SecretWatch` for each namespace that has policies, begun and ended as they come and go."""

import asyncio
import random
from collections.abc import Callable, Set

from .secret_watch import SecretCluster, SecretWatch

Changed = Callable[[str, str | None], None]
"""Namespace, and the policy whose stored document has changed; None: what can be read has, for all its policies."""


class SecretWatches:
    """See the module's text. What is kept before `run` begins with it."""

    def __init__(self, cluster: SecretCluster, changed: Changed, jitter: random.Random) -> None:
        self._cluster = cluster
        self._changed = changed
        self._jitter = jitter
        self._watches: dict[str, SecretWatch] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None

    def keep(self, namespaces: Set[str]) -> None:
        """Watches these, and no others any more."""
        for namespace in self._watches.keys() - namespaces:
            del self._watches[namespace]
            if (task := self._tasks.pop(namespace, None)) is not None:
                task.cancel()
        for namespace in namespaces - self._watches.keys():
            self._begin(namespace)

    def of(self, namespace: str) -> SecretWatch:
        """The watch of a namespace; it begins if there was none."""
        return self._watches.get(namespace) or self._begin(namespace)

    async def run(self) -> None:
        """Runs all of them, for ever."""
        async with asyncio.TaskGroup() as self._group:
            try:
                for namespace in self._watches:
                    self._start(namespace)
                await asyncio.Event().wait()
            finally:
                # Nothing can begin any more while the others end.
                self._group = None
                self._tasks.clear()

    def _begin(self, namespace: str) -> SecretWatch:
        def changed(policy: str | None) -> None:
            # Not for one that was ended: its last breath is nobody's business.
            if self._watches.get(namespace) is watch:
                self._changed(namespace, policy)

        watch = self._watches[namespace] = SecretWatch(self._cluster, namespace, changed, self._jitter)
        self._start(namespace)
        return watch

    def _start(self, namespace: str) -> None:
        if self._group is not None:
            running = self._watches[namespace].run(asyncio.sleep)
            self._tasks[namespace] = self._group.create_task(running)
