"""Finds what a policy has at a place of the schema: `spec.tenants[].name` is one value for each tenant."""

from collections.abc import Iterator
from typing import cast

from pydantic import BaseModel

from .models import FairnessPolicy


def values_at(policy: FairnessPolicy, place: str) -> Iterator[tuple[str, object]]:
    """Path and value of each, in the order of the file; what is absent is left out. "" is the policy itself."""
    found: list[tuple[str, object]] = [("", policy)]
    for part in place.split(".") if place else ():
        name, is_list = part.removesuffix("[]"), part.endswith("[]")
        found = [step for path, model in found for step in _steps(path, model, name, is_list)]
    yield from found


def _steps(path: str, model: object, name: str, is_list: bool) -> Iterator[tuple[str, object]]:
    # Only fields of models have places below them.
    fields = type(cast("BaseModel", model)).model_fields
    attribute = next(key for key, field in fields.items() if field.alias == name)
    value = getattr(model, attribute)
    path = f"{path}.{name}" if path else name
    if is_list:
        yield from ((f"{path}[{index}]", item) for index, item in enumerate(value))
    elif value is not None:
        yield path, value
