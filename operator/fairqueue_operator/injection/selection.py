"""Which policy a pod falls under: the pod's labels ask, the policies' selectors answer."""

from collections.abc import Mapping, Sequence

from fairqueue_api.models import FairnessPolicy

from .label_selectors import matches
from .names import INJECT_LABEL, ON_MISSING_POLICY, POLICY_LABEL, Json
from .reasons import Reason, Refused


def asks(pod: object) -> bool:
    """Whether the pod asks for the proxy; of anything that is no pod, False."""
    value = pod
    for key in ("metadata", "labels", INJECT_LABEL):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value == "true"


def select_policy(pod: Json, policies: Sequence[FairnessPolicy]) -> FairnessPolicy | None:
    """The policy for the pod; None if there is none and the pod says that this is all right.

    Policies of other namespaces than the pod's are passed over, if the pod says which is its own.
    """
    metadata = pod["metadata"]
    labels, namespace = metadata.get("labels", {}), metadata.get("namespace")
    policies = [policy for policy in policies if namespace in (None, "", policy.metadata.namespace)]
    selecting = [policy for policy in policies if matches(policy.spec.selector, labels)]
    name = labels.get(POLICY_LABEL)
    if name:
        return _named(name, pod, policies, selecting)
    if not selecting:
        _refuse_unless_allowed(pod, Reason.MISSING_POLICY, _list_of("the policies are", policies))
        return None
    if len(selecting) > 1:
        raise Refused(Reason.SEVERAL_POLICIES, _list_of("they are", selecting))
    return selecting[0]


def _named(
    name: str, pod: Json, policies: Sequence[FairnessPolicy], selecting: Sequence[FairnessPolicy]
) -> FairnessPolicy | None:
    for policy in selecting:
        if policy.metadata.name == name:
            return policy
    if any(policy.metadata.name == name for policy in policies):
        raise Refused(Reason.POLICY_DOES_NOT_SELECT, f"{name} does not; " + _list_of("those that do are", selecting))
    detail = f"{name} is not there; " + _list_of("the policies are", policies)
    _refuse_unless_allowed(pod, Reason.POLICY_NOT_FOUND, detail)
    return None


def _refuse_unless_allowed(pod: Json, reason: Reason, detail: str) -> None:
    if pod["metadata"].get("annotations", {}).get(ON_MISSING_POLICY) != "Allow":
        raise Refused(reason, detail)


def _list_of(what: str, policies: Sequence[FairnessPolicy]) -> str:
    return f"{what} {', '.join(sorted(policy.metadata.name for policy in policies)) or 'none'}"
