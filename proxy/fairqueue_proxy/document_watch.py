"""Watches where the configuration comes from and brings each new version into force, or keeps the last good one.

Files are looked at, not subscribed to: what Kubernetes mounts changes by a link that is swapped, which a look at the
file's identity sees as well as anything and without a descriptor for each. Nothing that fails here stops the proxy.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fairqueue_api import Document
from fairqueue_proxy.fingerprint import Fingerprint, fingerprint

LOOK_SECONDS = 0.5

log = logging.getLogger(__name__)


@dataclass(slots=True)
class ReloadCounts:
    """What became of new versions; `problem` is why the last one is not in force."""

    applied: int = 0
    failures: int = 0
    problem: str | None = None


class DocumentWatch:
    """Loads the document anew whenever one of `paths` (files, or folders with all below them) has changed.

    `load` raises an Exception with a message for whoever wrote the files; `apply` is told a document that differs from
    the last one.
    """

    def __init__(
        self,
        paths: list[Path],
        load: Callable[[], Document],
        apply: Callable[[Document], None],
        *,
        remember: Path | None = None,
        counts: ReloadCounts | None = None,
    ) -> None:
        self._paths = paths
        self._load = load
        self._apply = apply
        self._remember = remember
        self._seen: Fingerprint | None = None
        self._revision: str | None = None
        self.counts = counts or ReloadCounts()

    def in_force(self, document: Document, seen: Fingerprint) -> None:
        """This one is in force already: only what differs from it is news. `seen` was taken before it was loaded."""
        self._seen = seen
        self._revision = document.revision
        self._keep(document)

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Brings a new version into force if there is one. It is loaded aside, so that no stream waits for that."""
        now = fingerprint(self._paths)
        if now == self._seen:
            return
        self._seen = now
        try:
            document = await asyncio.to_thread(self._load)
        except Exception as error:
            self.counts.failures += 1
            self.counts.problem = str(error)
            log.error("the new configuration is not used: %s", error)
            return
        self.counts.problem = None
        if document.revision == self._revision:
            return
        # Unless all of it comes into force none is known to be, and the next version is news whatever it is.
        self._revision = None
        try:
            self._apply(document)
        except Exception as error:
            self.counts.failures += 1
            self.counts.problem = f"{type(error).__name__} while revision {document.revision[:12]} came into force"
            log.exception("the new configuration could not be brought into force")
            return
        self._revision = document.revision
        self.counts.applied += 1
        log.info("policy %s is in force, revision %s", document.policy, document.revision[:12])
        self._keep(document)

    def _keep(self, document: Document) -> None:
        """Keeps the document for a start at which the files are gone."""
        if self._remember is None:
            return
        beside = self._remember.with_name(f".{self._remember.name}.new")
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(document.to_json())
            beside.replace(self._remember)
        except OSError as error:
            log.warning("the last good document can't be kept in %s: %s", self._remember, error.strerror)
