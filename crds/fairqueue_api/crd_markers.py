"""What the CRD says of a field and a JSON schema cannot: integer formats, kinds of lists, written-out defaults.

A marker stands in the field's `Annotated[...]`; pydantic puts its keywords into the schema, and nothing is checked.
"""

from typing import Any

from pydantic import GetJsonSchemaHandler

LIST_TYPE = "x-kubernetes-list-type"
LIST_MAP_KEYS = "x-kubernetes-list-map-keys"
WRITTEN_DEFAULT = "x-fairqueue-default"

INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1


class CrdMarker:
    """Adds `keywords` to the schema of the field that it marks."""

    def __init__(self, **keywords: Any) -> None:
        self.keywords = keywords

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(core_schema), **self.keywords}


INT32 = CrdMarker(format="int32")
INT64 = CrdMarker(format="int64")
DATE_TIME = CrdMarker(format="date-time")
# Replaced as a whole, whoever applies it.
ATOMIC_LIST = CrdMarker(**{LIST_TYPE: "atomic"})
ATOMIC_MAP = CrdMarker(**{"x-kubernetes-map-type": "atomic"})
# No entry may be there twice.
SET = CrdMarker(**{LIST_TYPE: "set"})


def unique_by(*names: str) -> CrdMarker:
    """A list whose entries differ in these fields; several may own entries of it."""
    return CrdMarker(**{LIST_TYPE: "map", LIST_MAP_KEYS: list(names)})


def default(value: object) -> CrdMarker:
    """The default that the API server fills in, for an object or list that the model makes by a factory."""
    return CrdMarker(**{WRITTEN_DEFAULT: value})
