"""Finds what an engine has counted at the end of a plain reply of which only the end is there.

Long replies (embeddings, log-probabilities) are passed on as they come; engines write their counts after what was long.
Inside a JSON string each quote is escaped, so what a model has written cannot be taken for it. Pure.
"""

import re
from collections.abc import Callable
from typing import Final, TypeVar

_MOST_CANDIDATES: Final = 4
_BRACE: Final = re.compile(rb"[{}]")

Found = TypeVar("Found")


def object_in_tail(tail: bytes, name: str, decode: Callable[[bytes], Found]) -> Found | None:
    """The last object of this name in these bytes; None if there is none that can be read."""
    found = None
    beginnings = list(re.finditer(rb'"' + name.encode() + rb'"\s*:\s*(?=\{)', tail))
    for beginning in beginnings[-_MOST_CANDIDATES:]:
        depth = 0
        for brace in _BRACE.finditer(tail, beginning.end()):
            depth += 1 if brace[0] == b"{" else -1
            if depth == 0:
                found = _decoded(tail[beginning.end() : brace.end()], decode) or found
                break
    return found


def _decoded(value: bytes, decode: Callable[[bytes], Found]) -> Found | None:
    try:
        return decode(value)
    except (ValueError, RecursionError):
        return None
