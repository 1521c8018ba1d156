"""The RFC 6902 patch from one JSON value to another.

Small and always right rather than shortest: lists of one length are compared place by place, others are replaced as a
whole. (The `jsonpatch` library's `make_patch` looks for moves within lists, and gives patches that don't apply: a test
has one.)
"""

from collections.abc import Iterator
from typing import Any, Final

from .names import Json

_NOTHING: Final = object()


def make_patch(before: object, after: object) -> tuple[Json, ...]:
    """In the order of the keys, so that the same change always gives the same patch."""
    return tuple(_operations(before, after, ""))


def _operations(before: object, after: object, path: str) -> Iterator[Json]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            yield from _of_member(before.get(key, _NOTHING), after.get(key, _NOTHING), f"{path}/{_escaped(key)}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _operations(old, new, f"{path}/{index}")
    elif not _same(before, after):
        yield {"op": "replace", "path": path, "value": after}


def _of_member(before: object, after: object, path: str) -> Iterator[Json]:
    if after is _NOTHING:
        yield {"op": "remove", "path": path}
    elif before is _NOTHING:
        yield {"op": "add", "path": path, "value": after}
    else:
        yield from _operations(before, after, path)


def _escaped(key: Any) -> str:
    return str(key).replace("~", "~0").replace("/", "~1")


def _same(before: object, after: object) -> bool:
    # In Python 1 is True, in JSON it is not; within containers neither is changed into the other here.
    return before == after and isinstance(before, bool) == isinstance(after, bool)
