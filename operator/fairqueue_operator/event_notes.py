"""Which Events are written about pods, and how: on the pod's owner, since a denied pod never exists. Pure.

A ReplicaSet tries again and again with the same pod but another name: what is the same for its owner is one note.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

from .admission import Review, one_line
from .verdict import Verdict

CONTROLLER: Final = "fairqueue.dev/injector"
_NOTE_BYTES: Final = 1024
_OWNER_FIELDS: Final = ("apiVersion", "kind", "name", "uid")


@dataclass(frozen=True, slots=True)
class Note:
    """Something to be said about the owner of a pod; equal notes say the same."""

    namespace: str
    owner: tuple[str, ...]
    """Its apiVersion, kind, name and uid."""
    reason: str
    text: str


def notes_on(review: Review, verdict: Verdict) -> Iterator[Note]:
    """What should be known about the pod beyond the answer itself; of a pod without an owner, nothing.

    Who creates a bare pod is told by kubectl; there is no other object to write on.
    """
    if review.dry_run or review.owner is None:
        return
    owner = tuple(str(review.owner.get(name, "")) for name in _OWNER_FIELDS)
    if not all(owner):
        return
    if verdict.is_denied:
        yield Note(review.namespace, owner, verdict.reason.event_reason, _shortened(one_line(verdict.message)))
    for warning in verdict.warnings:
        yield Note(review.namespace, owner, warning.event_reason, _shortened(one_line(warning.text)))


def event(note: Note, instance: str, now: datetime) -> dict[str, Any]:
    """The Event (events.k8s.io/v1); `instance` is the name of this injector's pod."""
    regarding = dict(zip(_OWNER_FIELDS, note.owner, strict=True))
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"fairqueue-injector.{uuid4().hex}", "namespace": note.namespace},
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "type": "Warning",
        "reason": note.reason,
        "action": "Inject",
        "note": note.text,
        "regarding": {**regarding, "namespace": note.namespace},
        "reportingController": CONTROLLER,
        "reportingInstance": instance[:128],
    }


def _shortened(text: str) -> str:
    content = text.encode()
    if len(content) <= _NOTE_BYTES:
        return text
    return content[: _NOTE_BYTES - 3].decode(errors="ignore") + "…"
