"""What `fairqueue status` says of a pod: whether it has the proxy, and if not, why. Pure."""

import json
from dataclasses import dataclass

from fairqueue_cli.kubernetes_json import (
    Resource,
    annotations_of,
    at,
    holds,
    labels_of,
    name_of,
    namespace_of,
    objects_at,
    text_at,
)
from fairqueue_operator.bare_pods import replacement
from fairqueue_operator.injection.names import (
    BOUND_POLICY,
    INJECT_LABEL,
    ON_MISSING_POLICY,
    POLICY_LABEL,
    PROXY_CONTAINER,
    STATUS,
)


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod that runs or will. `bound`: the policy that its proxy goes by; `why_not`: why it has no proxy; `is_bare`:
    it asks for one, and nothing says that it may be without."""

    namespace: str
    name: str
    labels: dict[str, str]
    is_injected: bool
    bound: str
    chosen: str
    is_ready: bool
    has_started: bool
    version: str
    is_bare: bool
    why_not: str

    @property
    def asks(self) -> bool:
        """Its label asks for the proxy."""
        return self.labels.get(INJECT_LABEL) == "true"


def read_pod(item: Resource) -> Pod | None:
    """None for one that has ended, or is about to."""
    if text_at(item, "status", "phase") in ("Succeeded", "Failed") or at(item, "metadata", "deletionTimestamp"):
        return None
    labels, annotations = labels_of(item), annotations_of(item)
    status = _status(annotations.get(STATUS, ""))
    sidecar = any(each.get("name") == PROXY_CONTAINER for each in objects_at(item, "spec", "initContainers"))
    is_injected = sidecar and "hash" in status
    excuse = "" if is_injected else _excuse(labels, annotations, status)
    is_bare = not is_injected and not excuse
    return Pod(
        namespace=namespace_of(item),
        name=name_of(item),
        labels=labels,
        is_injected=is_injected,
        bound=annotations.get(BOUND_POLICY, "") if is_injected else "",
        chosen=labels.get(POLICY_LABEL, ""),
        is_ready=holds(item, "Ready"),
        has_started=is_injected and _proxy_has_started(item),
        version=text_at(status, "version"),
        is_bare=is_bare,
        why_not=f"it is older than the injector, or than its label: {replacement(item)}" if is_bare else excuse,
    )


def _excuse(labels: dict[str, str], annotations: dict[str, str], status: Resource) -> str:
    """Why a pod without the proxy may be so; empty if nothing says that it may."""
    if labels.get(INJECT_LABEL) != "true":
        return f'it does not ask: put the label {INJECT_LABEL}: "true" on the pod template'
    if status.get("mode") == "Disabled":
        return f"spec.injection.mode of policy {text_at(status, 'policy')} was Disabled when it was created"
    if annotations.get(ON_MISSING_POLICY) == "Allow":
        return f"no policy selected it when it was created, and its annotation {ON_MISSING_POLICY}: Allow let it in"
    return ""


def _proxy_has_started(item: Resource) -> bool:
    statuses = objects_at(item, "status", "initContainerStatuses")
    return any(each.get("name") == PROXY_CONTAINER and each.get("started") is True for each in statuses)


def _status(text: str) -> Resource:
    try:
        status = json.loads(text or "{}")
    except ValueError:
        return {}
    return status if isinstance(status, dict) else {}
