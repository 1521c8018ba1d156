"""The bytes of a watch: JSON objects, one a line, each an event; pure.

The client library's own reader gives up on lines of more than a few megabytes and on what it does not know.
"""

import json
from collections.abc import Iterator
from typing import Any

from .cluster_model import ClusterError, Gone, ResourceEvent, Unreachable

_MAX_LINE_BYTES = 16 * 1_048_576
_GONE = 410


class LineReader:
    """Puts lines together from what came. A last line without its end is an event that was cut, and is not given."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that end in the chunk. Raises `Unreachable` when a line does not come to an end."""
        # Only what is new can hold the end of a line: a long one must not be searched again for each part.
        first, *others = chunk.split(b"\n")
        self._rest += first
        for other in others:
            line = bytes(self._rest)
            self._rest = bytearray(other)
            if line.strip():
                yield line
        if len(self._rest) > _MAX_LINE_BYTES:
            raise Unreachable("watch: a line is longer than any object can be")


def read_event(line: bytes) -> ResourceEvent:
    """The event in a line. Raises `Gone` if the server does not remember so far back, else `ClusterError`."""
    try:
        event = json.loads(line)
        kind, item = event["type"], event["object"]
        if kind == "ERROR":
            raise _error(dict(item))
        version = item["metadata"]["resourceVersion"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Unreachable("watch: a line is not an event") from None
    if kind not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK") or not isinstance(version, str):
        raise Unreachable("watch: a line is not an event that is known")
    return ResourceEvent(kind, item, version)


def _error(status: dict[str, Any]) -> ClusterError:
    message = " ".join(str(status.get("message", "")).split())[:300]
    if status.get("code") == _GONE or status.get("reason") in ("Expired", "Gone"):
        return Gone(f"watch: {message}")
    return Unreachable(f"watch: {message}")
