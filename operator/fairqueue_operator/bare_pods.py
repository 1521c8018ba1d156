"""Pods that ask for the proxy and have none, as they are older than the webhook or than their label: what to say. Pure.

Nothing changes a pod that is there. Each of these is told of on the pod itself, with the command that replaces it.
"""

from typing import Any, Final

from .cluster_model import Resource
from .event_notes import Note
from .injection.names import INJECT_LABEL, ON_MISSING_POLICY, STATUS

REASON: Final = "NotInjected"
# Kinds of controllers that `kubectl rollout restart` knows, besides Deployments, whose ReplicaSets own the pods.
_RESTARTED: Final = frozenset({"StatefulSet", "DaemonSet"})


def is_bare(pod: Resource) -> bool:
    """The pod (its metadata is enough) has no proxy, and nothing that says why it needs none."""
    metadata = _mapping(pod.get("metadata"))
    labels, annotations = _mapping(metadata.get("labels")), _mapping(metadata.get("annotations"))
    may_be = STATUS in annotations or annotations.get(ON_MISSING_POLICY) == "Allow"
    return labels.get(INJECT_LABEL) == "true" and not may_be and "deletionTimestamp" not in metadata


def note_on(pod: Resource) -> Note:
    """What is said of one of them."""
    metadata = _mapping(pod.get("metadata"))
    namespace, name = str(metadata.get("namespace", "")), str(metadata.get("name", ""))
    owner = "v1", "Pod", name, str(metadata.get("uid", ""))
    text = (
        "The pod asks for fairqueue's proxy and has none: it is older than the injector, or than its label. "
        f"To replace it: {replacement(pod)}"
    )
    return Note(namespace, owner, REASON, text)


def replacement(pod: Resource) -> str:
    """The command by which a pod (its metadata is enough) gives way to another."""
    metadata = _mapping(pod.get("metadata"))
    namespace, name = str(metadata.get("namespace", "")), str(metadata.get("name", ""))
    controller: Resource = next((it for it in metadata.get("ownerReferences") or () if it.get("controller")), {})
    kind, owner = str(controller.get("kind", "")), str(controller.get("name", ""))
    template = _mapping(metadata.get("labels")).get("pod-template-hash")
    if kind == "ReplicaSet" and template and owner.endswith(f"-{template}"):
        kind, owner = "Deployment", owner.removesuffix(f"-{template}")
    if kind == "Deployment" or kind in _RESTARTED:
        return f"kubectl -n {namespace} rollout restart {kind.lower()}/{owner}"
    if controller:
        return f"kubectl -n {namespace} delete pod {name} ({kind} {owner} makes another)"
    return f"kubectl -n {namespace} delete pod {name}, and apply it again"


def _mapping(value: Any) -> Resource:
    return value if isinstance(value, dict) else {}
