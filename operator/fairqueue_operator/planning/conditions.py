"""The status of a policy as it is written, and whether it says anything new."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from ..cluster_model import Resource
from .judging import Judgement
from .programming import PodTotals, Programming
from .verdicts import Verdict

ACCEPTED: Final = "Accepted"
PROGRAMMED: Final = "Programmed"
READY: Final = "Ready"
CONDITIONS: Final = (ACCEPTED, PROGRAMMED, READY)
"""Those that are the operator's; others on a policy are left to whoever wrote them."""


def new_status(
    old: Resource, generation: int, judgement: Judgement, programming: Programming, now: datetime
) -> dict[str, Any]:
    """The whole of what the operator says, `generation` being that of the policy which was judged.

    A condition keeps its time of transition from `old`, the status that was written last, until its status is another.
    """
    verdicts = {ACCEPTED: judgement.accepted, PROGRAMMED: programming.programmed, READY: programming.ready}
    before = conditions_of(old)
    status: dict[str, Any] = {
        "observedGeneration": generation,
        "configRevision": judgement.revision or None,
        "tenants": judgement.tenants,
        "pods": _pods(programming.pods),
        "conditions": [
            _condition(type_, found, before.get(type_, {}), generation, now) for type_, found in verdicts.items()
        ],
    }
    return {name: value for name, value in status.items() if value is not None}


def conditions_of(status: Resource) -> dict[str, Mapping[str, Any]]:
    """The operator's conditions in a status, by type, in their order."""
    found = status.get("conditions")
    by_type = {entry["type"]: entry for entry in (found if isinstance(found, list) else ())}
    return {type_: by_type[type_] for type_ in CONDITIONS if type_ in by_type}


def same(one: Resource, other: Resource) -> bool:
    """Whether the operator says the same in both: the order and others' conditions do not matter, all else does."""
    return _own(one) == _own(other)


def has_turned(old: Resource, new: Resource) -> bool:
    """Whether a condition has another status or reason, or all is about another generation: more than counts, and
    messages that name other pods."""
    return old.get("observedGeneration") != new.get("observedGeneration") or _verdicts(old) != _verdicts(new)


def _verdicts(status: Resource) -> dict[str, tuple[Any, Any]]:
    return {type_: (found.get("status"), found.get("reason")) for type_, found in conditions_of(status).items()}


def _own(status: Resource) -> dict[str, Any]:
    return {**status, "conditions": conditions_of(status)}


def _condition(type_: str, found: Verdict, before: Mapping[str, Any], generation: int, now: datetime) -> dict[str, Any]:
    is_as_before = before.get("status") == found.status and "lastTransitionTime" in before
    return {
        "type": type_,
        "status": found.status,
        "observedGeneration": generation,
        "lastTransitionTime": before["lastTransitionTime"] if is_as_before else _written(now),
        "reason": found.reason,
        "message": found.message,
    }


def _pods(totals: PodTotals) -> dict[str, int]:
    return {name: count for name, count in asdict(totals).items() if count is not None}


def _written(time: datetime) -> str:
    """As the API server writes times."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
