"""What becomes of one admission request, in the form that answer, log line, metric and Event are made from.

A decision of the injection becomes a verdict here; beside its reasons there are those for which no pod is to blame.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from fairqueue_api import FairnessPolicy

from .injection import Decision, InjectionSettings, Outcome, Reason, decide

FORBIDDEN: Final = 403
UNAVAILABLE: Final = 503
INTERNAL: Final = 500


class OwnReason(StrEnum):
    """Reasons of the process around the injection."""

    NOT_A_NEW_POD = "not_a_new_pod"
    """Something else than the creation of a pod was sent here: the webhook's rules are wrong. Admitted."""
    POLICIES_UNREADABLE = "policies_unreadable"
    """No policy is known for the pod, and the API server could not be asked whether that is so. Denied."""
    INTERNAL_ERROR = "internal_error"
    """A defect of ours. Denied."""

    @property
    def event_reason(self) -> str:
        return "".join(word.capitalize() for word in self.value.split("_"))


DECISIONS: Final = (*(reason.value for reason in Reason if reason.outcome is not Outcome.WARNING), *OwnReason)
"""Every value of the metric's label."""


@dataclass(frozen=True, slots=True)
class Warning:
    """Something to know about a pod that was admitted; `event_reason` is what an Event calls it."""

    event_reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """`code` is the HTTP status of a denial, for kubectl and controllers; None admits."""

    reason: Reason | OwnReason
    code: int | None = None
    message: str = ""
    patch: Sequence[Mapping[str, Any]] = ()
    warnings: tuple[Warning, ...] = ()

    @property
    def is_denied(self) -> bool:
        return self.code is not None


Judge = Callable[[Mapping[str, Any], Sequence[FairnessPolicy]], Verdict]
"""A pod and the usable policies of its namespace go in. Pure; if it raises, that is a defect."""


def judge_by(settings: InjectionSettings) -> Judge:
    """The injection itself as a judge."""

    def judge(pod: Mapping[str, Any], policies: Sequence[FairnessPolicy]) -> Verdict:
        return verdict_of(decide(pod, policies, settings))

    return judge


def verdict_of(decision: Decision) -> Verdict:
    """What the injection decided, for the API server and people."""
    if not decision.allowed:
        return Verdict(decision.reason, FORBIDDEN, decision.message)
    warnings = [
        Warning(warned.reason.event_reason, f"{warned.reason}: {warned.reason.sentence} ({warned.detail})")
        for warned in decision.warnings
    ]
    if decision.reason is Reason.MISSING_POLICY_ALLOWED:
        # It is what the pod asks for, and seldom what is wanted for long.
        warnings.append(Warning(decision.reason.event_reason, decision.message))
    return Verdict(decision.reason, None, decision.message, decision.patch, tuple(warnings))


def denied(reason: Reason | OwnReason, message: str, code: int = FORBIDDEN) -> Verdict:
    """The pod must not be created; the message is put in the form that the injection's own have."""
    return Verdict(reason, code, f"{reason}: {message}")
