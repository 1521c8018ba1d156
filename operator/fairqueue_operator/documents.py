"""The stored document of each policy as it is in the cluster: read once, written when it must be another one.

What was read stands until the Secret's resource version, as its watch says it, is another.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fairqueue_api import DocumentError, parse_document

from .cluster_model import StoredDocument
from .store import PolicyKey


class DocumentCluster(Protocol):
    """What is needed of the API server."""

    async def read_document(self, namespace: str, policy: str) -> StoredDocument | None: ...

    async def apply_document(self, namespace: str, policy: str, policy_uid: str, text: str) -> StoredDocument: ...


@dataclass(frozen=True, slots=True)
class _Read:
    document: StoredDocument | None
    revision: str
    has_vanished: bool = False
    # The resource version with which this text came.
    written_as: str = ""


class Documents:
    """See the module's text. Raises `ClusterError` from what it asks."""

    def __init__(self, cluster: DocumentCluster, written: Callable[[], None]) -> None:
        self._cluster = cluster
        self._written = written
        self._read: dict[PolicyKey, _Read] = {}

    async def stored(self, key: PolicyKey, version: str | None) -> str | None:
        """The text that is stored, None if none is. `version` is the Secret's by its watch, None if that sees none."""
        read = self._read.get(key)
        known = read.document if read is not None else None
        if read is None or (known.resource_version if known is not None else None) != version:
            was_there = known is not None or (read is not None and read.has_vanished)
            before, known = known, await self._cluster.read_document(*key)
            written_as = "" if known is None else known.resource_version
            if read is not None and before is not None and known is not None and before.text == known.text:
                written_as = read.written_as
            self._read[key] = _Read(known, _revision(known), was_there and known is None, written_as)
        return None if known is None else known.text

    def known_text(self, key: PolicyKey) -> str | None:
        """What was stored when it could be read last."""
        read = self._read.get(key)
        return None if read is None or read.document is None else read.document.text

    def has_vanished(self, key: PolicyKey) -> bool:
        """Whether what was stored is not there any more, and nothing was stored since."""
        read = self._read.get(key)
        return read is not None and read.has_vanished

    def is_taken(self, key: PolicyKey) -> bool:
        """Whether a Secret of that name is there that is not fairqueue's."""
        read = self._read.get(key)
        return read is not None and read.document is not None and not read.document.is_ours

    def revision(self, key: PolicyKey) -> str:
        """Of what is stored as far as is known; empty if it is nothing that a proxy can read."""
        read = self._read.get(key)
        return "" if read is None else read.revision

    def version(self, key: PolicyKey) -> str:
        """Of the last write of what is stored, as far as is known; empty if nothing is. What others have written beside
        the document, as labels are, is none."""
        read = self._read.get(key)
        return "" if read is None else read.written_as

    async def store(self, key: PolicyKey, policy_uid: str, text: str) -> None:
        """Has this text stored, for that policy to own."""
        read = self._read.get(key)
        document = None if read is None else read.document
        if document is not None and document.text == text and document.owner_uids == (policy_uid,):
            return
        stored = await self._cluster.apply_document(*key, policy_uid, text)
        self._read[key] = _Read(stored, _revision(stored), written_as=stored.resource_version)
        self._written()

    def forget(self, key: PolicyKey) -> None:
        """The policy is gone."""
        self._read.pop(key, None)


def _revision(document: StoredDocument | None) -> str:
    if document is None or document.text is None:
        return ""
    try:
        return parse_document(document.text.encode()).document.revision
    except DocumentError:
        return ""
