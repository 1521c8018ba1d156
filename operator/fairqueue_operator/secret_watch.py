"""The labelled Secrets of one namespace, kept in step: a list of metadata, then a watch of it from there.

The content of a Secret is read when its metadata has a label of ours, and again when its version changes; a Secret
that loses its labels or goes is out of the view at once. What cannot be read stays as it was, since an API server
that fails is no deletion; but a 403, to whatever was asked, makes the view `Denied` until the right is there again.
The API server does not end a watch when the right to it is taken away, so watches are short: the next one tells.
"""

import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Final, Protocol

from . import log_lines
from .backoff import Backoff
from .cluster_model import (
    ClusterError,
    Forbidden,
    Gone,
    Resource,
    ResourceEvent,
    ResourceList,
    StoredSecret,
    Unreachable,
)
from .known_secrets import KnownSecrets
from .planning.secrets_view import Denied, Open, SecretsView, Unknown
from .resource_json import name_of

WATCH_SECONDS: Final = 45.0
FIRST_SECONDS: Final = 1.0
LONGEST_SECONDS: Final = 15.0
_FAILURES_BEFORE_LIST: Final = 3

Pause = Callable[[float], Awaitable[None]]
Changed = Callable[[str | None], None]
"""Is told of which policy the stored document has changed; None: the view has, which concerns all policies."""


class SecretCluster(Protocol):
    """What is needed of the API server."""

    async def list_secrets(self, namespace: str) -> ResourceList: ...

    def watch_secrets(
        self, namespace: str, from_version: str, seconds: float
    ) -> AsyncGenerator[ResourceEvent, None]: ...

    async def read_secret(self, namespace: str, name: str) -> StoredSecret | None: ...


class SecretWatch:
    """See the module's text."""

    def __init__(self, cluster: SecretCluster, namespace: str, changed: Changed, jitter: random.Random) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._changed = changed
        self._jitter = jitter
        self._backoff = Backoff(jitter, first_seconds=FIRST_SECONDS, longest_seconds=LONGEST_SECONDS)
        self.view: SecretsView = Unknown()
        self._known = KnownSecrets()
        # The version from which to go on; None: everything is to be listed.
        self._from: str | None = None
        self._failures = 0
        # What was logged last; empty once it goes well.
        self._said = ""

    def version_of_document(self, policy: str) -> str | None:
        """Of the Secret in which a document is stored for a policy of that name; None if none is seen."""
        return self._known.documents.get(policy)

    async def run(self, pause: Pause) -> None:
        """Lists and watches for ever; never raises."""
        while True:
            try:
                await self._follow()
            except Exception as error:
                self._failed(error)
                wait = self._backoff.next_seconds()
            else:
                self._went_well()
                # A server that ends each watch at once must not be asked without a pause.
                wait = self._jitter.uniform(0, 1)
            await pause(wait)

    async def _follow(self) -> None:
        if self._from is None:
            listed = await self._cluster.list_secrets(self._namespace)
            await self._take_up(listed)
            self._from = listed.resource_version
            self._went_well()
        seconds = WATCH_SECONDS * self._jitter.uniform(0.8, 1.2)
        async with aclosing(self._cluster.watch_secrets(self._namespace, self._from, seconds)) as events:
            async for event in events:
                await self._apply(event)
                self._from = event.resource_version
                self._went_well()

    async def _take_up(self, listed: ResourceList) -> None:
        self._tell_of(self._known.see_all(listed.items))
        if isinstance(self.view, Open):
            # What is gone is gone, whatever becomes of reading the rest.
            self._open()
        for item in listed.items:
            await self._read(item)
        self._open()

    async def _apply(self, event: ResourceEvent) -> None:
        if event.type == "BOOKMARK":
            return
        if event.type == "DELETED":
            self._tell_of(self._known.drop(name_of(event.item)))
        else:
            self._tell_of(self._known.see(event.item))
            await self._read(event.item)
        self._open()

    async def _read(self, item: Resource) -> None:
        if self._known.is_to_be_read(item):
            name = name_of(item)
            self._known.put(name, await self._cluster.read_secret(self._namespace, name))

    def _tell_of(self, policies: Iterable[str]) -> None:
        for policy in policies:
            self._changed(policy)

    def _open(self) -> None:
        self._show(Open(self._known.labelled()))

    def _deny(self, because: str) -> None:
        self._known = KnownSecrets()
        self._from = None
        self._show(Denied(because))

    def _show(self, view: SecretsView) -> None:
        if view != self.view:
            self.view = view
            self._changed(None)

    def _went_well(self) -> None:
        self._failures = 0
        self._backoff.reset()
        self._say("")

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        if isinstance(error, Forbidden):
            self._deny(str(error))
            self._say("secrets may not be read", error)
        elif isinstance(error, ClusterError):
            # After a restore from a backup, the server may never again come to a version that it once gave.
            if not isinstance(error, Unreachable) or self._failures >= _FAILURES_BEFORE_LIST:
                self._from = None
            if not isinstance(error, Gone):
                self._say("secrets not followed", error)
        else:
            self._from = None
            log_lines.log.error("secrets not followed", exc_info=error)

    def _say(self, what: str, error: ClusterError | None = None) -> None:
        if what and what != self._said:
            log_lines.warning(what, namespace=self._namespace, error=str(error))
        self._said = what
