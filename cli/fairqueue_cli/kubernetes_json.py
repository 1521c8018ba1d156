"""Resources of Kubernetes as JSON, read without trust in their shape: what is absent or of another kind is empty."""

from collections.abc import Mapping
from typing import Any

Resource = Mapping[str, Any]


def at(item: object, *path: str) -> object:
    """What stands at the path; None if nothing does."""
    for key in path:
        item = item.get(key) if isinstance(item, Mapping) else None
    return item


def mapping_at(item: object, *path: str) -> Resource:
    """The object there."""
    found = at(item, *path)
    return found if isinstance(found, Mapping) else {}


def text_at(item: object, *path: str) -> str:
    """The text there."""
    found = at(item, *path)
    return found if isinstance(found, str) else ""


def number_at(item: object, *path: str) -> int | None:
    """The whole number there."""
    found = at(item, *path)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def objects_at(item: object, *path: str) -> list[Resource]:
    """The objects of the list there."""
    found = at(item, *path)
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


def labels_of(item: object) -> dict[str, str]:
    """Its labels."""
    return _texts(mapping_at(item, "metadata", "labels"))


def annotations_of(item: object) -> dict[str, str]:
    """Its annotations."""
    return _texts(mapping_at(item, "metadata", "annotations"))


def name_of(item: object) -> str:
    """Its name."""
    return text_at(item, "metadata", "name")


def namespace_of(item: object) -> str:
    """Its namespace."""
    return text_at(item, "metadata", "namespace")


def condition_of(item: object, kind: str) -> Resource:
    """Its condition of that type."""
    conditions = objects_at(item, "status", "conditions")
    return next((each for each in conditions if each.get("type") == kind), {})


def holds(item: object, kind: str) -> bool:
    """Whether its condition of that type is True."""
    return condition_of(item, kind).get("status") == "True"


def controller_of(item: object) -> tuple[str, str]:
    """Kind and name of the controller that owns it; empty without one."""
    owners = objects_at(item, "metadata", "ownerReferences")
    owner = next((each for each in owners if each.get("controller") is True), {})
    return text_at(owner, "kind"), text_at(owner, "name")


def _texts(values: Resource) -> dict[str, str]:
    return {key: value for key, value in values.items() if isinstance(value, str)}
