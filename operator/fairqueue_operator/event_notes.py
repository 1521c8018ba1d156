"""Which Events the injector writes about pods, on the pod's owner, since a denied pod never exists; and how Events are
written, by whomever. Pure.

A ReplicaSet tries again and again with the same pod but another name: what is the same for its owner is one note.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import uuid4

from .admission import Review, one_line
from .text_limits import fitted
from .verdict import Verdict

NOTE_BYTES: Final = 1024
_OWNER_FIELDS: Final = ("apiVersion", "kind", "name", "uid")


@dataclass(frozen=True, slots=True)
class Reporter:
    """Who writes Events: its name in their names, as controller, and what it does."""

    name: str
    controller: str
    action: str
    quiet_seconds: float = 0.0
    """So long it does not say the same again. 0: whatever it says is new."""


# Denied again and again, in the same words: controllers try until there is a pod.
INJECTOR: Final = Reporter("fairqueue-injector", "fairqueue.dev/injector", "Inject", quiet_seconds=600.0)
OPERATOR: Final = Reporter("fairqueue-operator", "fairqueue.dev/operator", "Reconcile")


@dataclass(frozen=True, slots=True)
class Note:
    """Something to be said about an object, such as the owner of a pod; equal notes say the same."""

    namespace: str
    owner: tuple[str, ...]
    """Its apiVersion, kind, name and uid."""
    reason: str
    text: str
    """At most `NOTE_BYTES` in UTF-8."""
    type: Literal["Normal", "Warning"] = "Warning"


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
        yield Note(review.namespace, owner, verdict.reason.event_reason, fitted(one_line(verdict.message), NOTE_BYTES))
    for warning in verdict.warnings:
        yield Note(review.namespace, owner, warning.event_reason, fitted(one_line(warning.text), NOTE_BYTES))


def event(note: Note, reporter: Reporter, instance: str, now: datetime) -> dict[str, Any]:
    """The Event (events.k8s.io/v1); `instance` is the name of the reporter's pod."""
    regarding = dict(zip(_OWNER_FIELDS, note.owner, strict=True))
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{reporter.name}.{uuid4().hex}", "namespace": note.namespace},
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "type": note.type,
        "reason": note.reason,
        "action": reporter.action,
        "note": note.text,
        "regarding": {**regarding, "namespace": note.namespace},
        "reportingController": reporter.controller,
        "reportingInstance": instance[:128],
    }
