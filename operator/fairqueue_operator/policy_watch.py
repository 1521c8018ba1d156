"""Fills the policy cache and keeps it in step: a list, then a watch from where the list was made.

`run` never ends and never raises. A watch that ends goes on from the last version that was seen; one that fails does
so after a pause; only when the server does not remember that version, or goes on failing, is everything listed
again. Until the first list has come, the cache is not filled; after it, it is never emptied: old policies are better
than none.
"""

import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Protocol

from . import log_lines
from .backoff import Backoff
from .cluster_model import ClusterError, Gone, NotFound, ResourceEvent, ResourceList, Unreachable
from .policy_cache import PolicyCache

_FAILURES_BEFORE_LIST = 3


class PolicySource(Protocol):
    """What the watch needs of the API server."""

    async def list_policies(self, namespace: str | None = None) -> ResourceList: ...

    def watch_policies(self, resource_version: str) -> AsyncGenerator[ResourceEvent, None]: ...


class PolicyWatch:
    """See the module's text."""

    def __init__(self, source: PolicySource, cache: PolicyCache) -> None:
        self._source = source
        self._cache = cache
        self._version: str | None = None
        self._failures = 0

    async def run(self, pause: Callable[[float], Awaitable[None]], jitter: random.Random) -> None:
        """Lists and watches for ever."""
        backoff = Backoff(jitter)
        while True:
            try:
                await self._follow()
            except Exception as error:
                self._failed(error)
            if self._failures == 0:
                backoff.reset()
                # A server that ends each watch at once must not be asked without a pause.
                await pause(jitter.uniform(0, 1))
            else:
                await pause(backoff.next_seconds())

    async def _follow(self) -> None:
        if self._version is None:
            listed = await self._source.list_policies()
            self._cache.replace(listed.items)
            self._version = listed.resource_version
            log_lines.info("policies listed", policies=len(self._cache))
        async with aclosing(self._source.watch_policies(self._version)) as events:
            async for event in events:
                self._cache.apply(event)
                self._version = event.resource_version
                self._failures = 0
        self._failures = 0

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        # After a restore from a backup, the server may never again come to a version that it once gave.
        if not isinstance(error, Unreachable) or self._failures >= _FAILURES_BEFORE_LIST:
            self._version = None
        if isinstance(error, Gone):
            log_lines.info("policies are listed again", because=str(error))
        elif isinstance(error, NotFound):
            log_lines.warning("policies not found: is the CRD installed?", error=str(error))
        elif isinstance(error, ClusterError):
            log_lines.warning("policies not followed", error=str(error))
        else:
            log_lines.log.error("policies not followed", exc_info=error)
