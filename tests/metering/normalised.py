"""A stream with what differs between two runs of the same request replaced by its type."""

import json
from typing import Any

VARYING = {"id", "item_id", "created", "created_at", "completed_at", "timings", "usage"}


def normalised(stream: bytes) -> list[tuple[list[bytes], str]]:
    """For each event its other lines and its data; the order of fields matters, and every space outside the data."""
    return [_event(event) for event in stream.split(b"\n\n") if event]


def _event(event: bytes) -> tuple[list[bytes], str]:
    lines = event.split(b"\n")
    data = [line.removeprefix(b"data: ") for line in lines if line.startswith(b"data: ")]
    others = [line for line in lines if not line.startswith(b"data: ")]
    return others, "".join(_typed(each) for each in data)


def _typed(data: bytes) -> str:
    return "[DONE]" if data == b"[DONE]" else json.dumps(_without_run(json.loads(data)))


def _without_run(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _shape(each) if name in VARYING and each is not None else _without_run(each)
            for name, each in value.items()
        }
    return [_without_run(each) for each in value] if isinstance(value, list) else value


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shape(each) for name, each in value.items()}
    return "number" if isinstance(value, (int, float)) else "text"
