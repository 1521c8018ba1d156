"""The Secrets of one namespace as far as policies may have keys from them.

Only Secrets with a label of ours are ever in it: else whoever may write policies could find out which Secrets are
there, or have one of them sent to an engine of their own. So a Secret that is absent and one that is not labelled are
the same, in what is said of them too.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from fairqueue_api import Problem, SecretError, digest
from fairqueue_api.secret_entries import can_be_entry, usable_key

API_KEYS_LABEL: Final = "fairqueue.dev/api-keys"
"""On a Secret, whatever its value: policies of its namespace may name its entries as keys of tenants."""
ENGINE_KEY_LABEL: Final = "fairqueue.dev/engine-key"
"""Likewise, as the key that is sent to the engine."""


@dataclass(frozen=True, slots=True)
class LabelledSecret:
    """A Secret with one of the labels, or both. Its content is in no `repr`."""

    is_api_keys: bool
    is_engine_key: bool
    data: Mapping[str, bytes] = field(repr=False)
    client_digests: frozenset[str] = field(init=False, repr=False, compare=False)
    """Of all keys in it that a tenant of any policy could have: computed once, when it is read."""

    def __post_init__(self) -> None:
        keys = _usable(self.data.values()) if self.is_api_keys else ()
        object.__setattr__(self, "client_digests", frozenset(map(digest, keys)))

    def has(self, label: str) -> bool:
        """Whether it has the label."""
        return self.is_api_keys if label == API_KEYS_LABEL else self.is_engine_key


@dataclass(frozen=True, slots=True)
class Unknown:
    """They have not been listed yet."""


@dataclass(frozen=True, slots=True)
class Denied:
    """The operator may not read them; `because` is what the API server said to it, in one line."""

    because: str


# Without slots, as what is computed of it is kept in it.
@dataclass(frozen=True)
class Open:
    """All labelled Secrets, by name."""

    secrets: Mapping[str, LabelledSecret]

    @cached_property
    def client_digests(self) -> frozenset[str]:
        """Of all keys that a tenant of any policy could have."""
        return frozenset().union(*(secret.client_digests for secret in self.secrets.values()))


SecretsView = Unknown | Denied | Open


class LabelledKeys:
    """A `SecretSource` that reads only Secrets with `label`.

    `wanted` are the entries that are going to be read, by Secret: a Secret that is not there is asked for with all of
    them at once.
    """

    def __init__(self, namespace: str, view: Open, label: str, wanted: Mapping[str, Iterable[str]]) -> None:
        self._namespace = namespace
        self._secrets = view.secrets
        self._label = label
        self._wanted = wanted

    def read(self, name: str, key: str) -> bytes:
        """The key in that entry. Raises `SecretError`, with the command that mends it."""
        if not can_be_entry(name, key):
            # Not repeated: it would be part of a command that somebody copies.
            what = "the Secret or the entry has a name that none can have"
            raise SecretError([Problem("", "", what, "correct it")])
        secret = self._secrets.get(name)
        if secret is None or not secret.has(self._label):
            raise self._absent(name, key)
        content = secret.data.get(key)
        if content is None:
            value = f'{{"stringData":{{"{key}":"KEY"}}}}'
            raise self._error(
                name, f"has no entry {key}", f"kubectl -n {self._namespace} patch secret {name} -p '{value}'"
            )
        return usable_key(content, f"Secret {name}, entry {key}")

    def _absent(self, name: str, key: str) -> SecretError:
        files = " ".join(f"--from-file={entry}=FILE" for entry in sorted({key, *self._wanted.get(name, ())}))
        in_namespace = f"kubectl -n {self._namespace}"
        fix = (
            f"{in_namespace} create secret generic {name} {files}; "
            f"{in_namespace} label secret {name} {self._label}=true"
        )
        return self._error(name, f"is not there or has not the label {self._label}", fix)

    def _error(self, name: str, what: str, fix: str) -> SecretError:
        return SecretError([Problem(f"Secret {name}", "", what, fix)])


def _usable(contents: Iterable[bytes]) -> Iterable[bytes]:
    for content in contents:
        try:
            yield usable_key(content, "")
        except SecretError:
            continue
