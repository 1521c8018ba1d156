"""Request paths in one form, so that a route is matched on what the engine will read and on nothing else."""

from functools import lru_cache
from urllib.parse import quote, unquote

PATHS_REMEMBERED = 64
"""Clients use few."""


@lru_cache(PATHS_REMEMBERED)
def normalise(path: str) -> str | None:
    """The path percent-decoded, without empty, `.` and `..` segments.

    Returns None for what no route can be: not absolute, climbing above the root, undecodable, or holding
    characters that engines might read differently (controls, backslashes, a percent sign that survives decoding).
    """
    if not path.startswith("/"):
        return None
    try:
        decoded = unquote(path, errors="strict")
    except UnicodeDecodeError:
        return None
    if any(character < " " or character in "\x7f\\%" for character in decoded):
        return None
    segments: list[str] = []
    for segment in decoded.split("/")[1:]:
        if segment == "..":
            if not segments:
                return None
            segments.pop()
        elif segment not in ("", "."):
            segments.append(segment)
    return "/" + "/".join(segments)


def as_sent(raw_path: str) -> str:
    """A request's target as it came: bytes outside of ASCII stay what they were."""
    return raw_path.encode("utf-8", "surrogateescape").decode("latin-1")


@lru_cache(PATHS_REMEMBERED)
def encode(path: str) -> str:
    """A normalised path as it goes to the engine."""
    return quote(path, safe="/:@!$&'()*+,;=-._~")
