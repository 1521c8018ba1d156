"""What injector and operator say to the API server and hear from it, in our own words.

Plain values and errors only, so that nobody but `cluster` knows the client library, and tests can stand in for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# A resource as JSON.
Resource = Mapping[str, Any]


class ClusterError(Exception):
    """A call that the API server did not do. `str()` is one line; it holds nothing of what was sent."""


class Unreachable(ClusterError):
    """No answer, or one that says that the server cannot answer now. Worth trying again."""


class Forbidden(ClusterError):
    """Our credential has no right to it."""


class Unauthenticated(ClusterError):
    """Our credential is not known, or not any more. Other rights would not help."""


class NotFound(ClusterError):
    """There is no such object, or no such kind of object."""


class Conflict(ClusterError):
    """Somebody else was faster: the object exists already, or has changed since it was read."""


class Gone(ClusterError):
    """The server has forgotten the resource version that a watch was to go on from: list again."""


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A Secret as it was read. Its content is in no `repr`."""

    data: Mapping[str, bytes] = field(repr=False)
    resource_version: str
    labels: Mapping[str, str] = field(default_factory=dict)
    owner_uids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """The rendered document of a policy as it is stored. It may hold the engine's key, so it is in no `repr`."""

    text: str | None = field(repr=False)
    """None if there is a Secret of that name without it."""
    owner_uids: tuple[str, ...]
    """Whose deletion deletes it: to be the policy's uid, and no other."""
    resource_version: str
    is_ours: bool = True
    """Else somebody else has a Secret of that name, which is to be left alone."""


@dataclass(frozen=True, slots=True)
class StoredLease:
    """Who works, as it was read. `holder` is empty if nobody does."""

    holder: str
    duration_seconds: int
    transitions: int
    resource_version: str


@dataclass(frozen=True, slots=True)
class WebhookConfiguration:
    """The part of a MutatingWebhookConfiguration that is kept in order: webhook's name → its `caBundle`."""

    bundles: Mapping[str, bytes]
    resource_version: str


@dataclass(frozen=True, slots=True)
class ResourceList:
    """All objects that were asked for, and from where a watch goes on."""

    items: tuple[Resource, ...]
    resource_version: str


@dataclass(frozen=True, slots=True)
class ResourceEvent:
    """One line of a watch. A bookmark brings nothing but a newer resource version."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    item: Resource
    resource_version: str
