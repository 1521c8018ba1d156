"""Resources as JSON: where each is found, and what of it several calls read. Pure."""

import base64
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from .cluster_model import Resource, StoredSecret

POLICIES: Final = "/apis/fairqueue.dev/v1alpha1"
CORE: Final = "/api/v1"
EVENTS: Final = "/apis/events.k8s.io/v1"
LEASES: Final = "/apis/coordination.k8s.io/v1"


def path(group: str, namespace: str, kind: str, name: str | None = None) -> str:
    """Of all of a kind (as paths name it: `secrets`) in a namespace, or of one; no name leads to another path."""
    all_of_kind = f"{group}/namespaces/{quote(namespace, safe='')}/{kind}"
    return all_of_kind if name is None else f"{all_of_kind}/{quote(name, safe='')}"


def mapping(value: object) -> Mapping[str, Any]:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def version_of(answer: Resource) -> str:
    """Of an object or a list."""
    return str(mapping(answer.get("metadata")).get("resourceVersion", ""))


def name_of(item: Resource) -> str:
    """The object's name."""
    return str(mapping(item.get("metadata")).get("name", ""))


def uid_of(item: Resource) -> str:
    """The object's uid."""
    return str(mapping(item.get("metadata")).get("uid", ""))


def labels_of(item: Resource) -> dict[str, str]:
    """The object's labels."""
    return {str(key): str(value) for key, value in mapping(mapping(item.get("metadata")).get("labels")).items()}


def encoded(data: Mapping[str, bytes]) -> dict[str, str]:
    """A Secret's `data`."""
    return {entry: base64.b64encode(content).decode() for entry, content in data.items()}


def stored_secret(item: Resource) -> StoredSecret:
    """A Secret as the API server gives it, which takes nothing else than base64."""
    data = {str(entry): base64.b64decode(text) for entry, text in mapping(item.get("data")).items()}
    return StoredSecret(data, version_of(item), labels_of(item), _owner_uids(item))


def _owner_uids(item: Resource) -> tuple[str, ...]:
    owners = mapping(item.get("metadata")).get("ownerReferences")
    return tuple(str(mapping(owner).get("uid", "")) for owner in (owners if isinstance(owners, list) else ()))
