"""What is remembered of a namespace's Secrets: those with a label of ours with their content, and the versions of
stored documents. Of all others, nothing. No I/O.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from .cluster_model import Resource, StoredSecret
from .injection.names import secret_name
from .planning.secrets_view import API_KEYS_LABEL, ENGINE_KEY_LABEL, LabelledSecret
from .resource_json import labels_of, name_of, version_of

_DOCUMENT: Final = secret_name("")


class KnownSecrets:
    """See the module's text. Items are Secrets' metadata."""

    def __init__(self) -> None:
        # With the version that was read.
        self._labelled: dict[str, tuple[str, LabelledSecret]] = {}
        self.documents: dict[str, str] = {}
        """Policy's name → version of the Secret that its document is stored in; the policy need not be there."""

    def labelled(self) -> dict[str, LabelledSecret]:
        """Those with a label, by name."""
        return {name: secret for name, (_, secret) in self._labelled.items()}

    def is_to_be_read(self, item: Resource) -> bool:
        """Whether it has a label, and its content is not known as it is now."""
        known = self._labelled.get(name_of(item))
        return _has_label(labels_of(item)) and (known is None or known[0] != version_of(item))

    def see(self, item: Resource) -> set[str]:
        """It is there; without a label it is forgotten. Returns the policy whose stored document it is, if that is
        another version."""
        name = name_of(item)
        if not _has_label(labels_of(item)):
            self._labelled.pop(name, None)
        return self._see_document(name, version_of(item))

    def put(self, name: str, stored: StoredSecret | None) -> None:
        """What was read of it: it may have lost its label since it was seen, or be gone."""
        if stored is None or not _has_label(stored.labels):
            self._labelled.pop(name, None)
            return
        labels = stored.labels
        secret = LabelledSecret(API_KEYS_LABEL in labels, ENGINE_KEY_LABEL in labels, stored.data)
        self._labelled[name] = stored.resource_version, secret

    def drop(self, name: str) -> set[str]:
        """It is gone. Returns the policy whose stored document it was, if it was one."""
        self._labelled.pop(name, None)
        return self._see_document(name, None)

    def see_all(self, items: Iterable[Resource]) -> set[str]:
        """These are there, and no others. Returns the policies whose stored documents are others now, or gone."""
        changed: set[str] = set()
        names = set()
        for item in items:
            names.add(name_of(item))
            changed |= self.see(item)
        documents = {f"{policy}{_DOCUMENT}" for policy in self.documents}
        for name in (self._labelled.keys() | documents) - names:
            changed |= self.drop(name)
        return changed

    def _see_document(self, name: str, version: str | None) -> set[str]:
        policy = name.removesuffix(_DOCUMENT)
        if policy == name or self.documents.get(policy) == version:
            return set()
        if version is None:
            del self.documents[policy]
        else:
            self.documents[policy] = version
        return {policy}


def _has_label(labels: Mapping[str, str]) -> bool:
    return API_KEYS_LABEL in labels or ENGINE_KEY_LABEL in labels
