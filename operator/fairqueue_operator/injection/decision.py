"""What becomes of a pod: the one function of this package that its users call."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairqueue_api.models import FairnessPolicy

from .injecting import inject
from .json_patch import make_patch
from .names import Json
from .pod_shape import shaped_pod
from .reasons import Outcome, Reason, Refused, Warned
from .selection import asks, select_policy
from .settings import InjectionSettings
from .status import is_injected, write_status


@dataclass(frozen=True, slots=True)
class Decision:
    reason: Reason
    detail: str = ""
    """What it is in this pod: names, ports, fields."""
    policy: str | None = None
    """The policy that decided, if one did."""
    patch: tuple[Mapping[str, Any], ...] = ()
    """RFC 6902; empty where the pod stays as it is."""
    warnings: tuple[Warned, ...] = ()

    @property
    def allowed(self) -> bool:
        return self.reason.outcome is not Outcome.DENIED

    @property
    def message(self) -> str:
        """For whoever applied the pod: the name, what is the matter, what to do, and where."""
        where = f" ({self.detail})" if self.detail else ""
        return f"{self.reason}: {self.reason.sentence}{where}"


def decide(pod: Mapping[str, Any], policies: Sequence[FairnessPolicy], settings: InjectionSettings) -> Decision:
    """Never raises, whatever `pod` is. `policies` are those of the pod's namespace; those of others are passed over
    where the pod says its own. A pod that was injected is left as it is.
    """
    if not asks(pod):
        return Decision(Reason.NOT_ASKED)
    try:
        changed = shaped_pod(pod)
        if is_injected(changed):
            return Decision(Reason.ALREADY_INJECTED)
        policy = select_policy(changed, policies)
    except Refused as refused:
        return Decision(refused.reason, refused.detail)
    if policy is None:
        return Decision(Reason.MISSING_POLICY_ALLOWED)
    return _decide_by(policy, pod, changed, settings)


def _decide_by(policy: FairnessPolicy, pod: Mapping[str, Any], changed: Json, settings: InjectionSettings) -> Decision:
    name = policy.metadata.name
    if policy.spec.injection.mode == "Disabled":
        write_status(changed, {"version": settings.version, "policy": name, "mode": "Disabled"})
        return Decision(Reason.DISABLED, policy=name, patch=make_patch(pod, changed))
    try:
        warnings = inject(changed, policy, settings)
    except Refused as refused:
        return Decision(refused.reason, refused.detail, policy=name)
    return Decision(Reason.INJECTED, policy=name, patch=make_patch(pod, changed), warnings=tuple(warnings))
