"""What the planner knows of a pod: a few words of it, so that thousands of pods are little memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..cluster_model import Resource
from ..injection.names import BOUND_POLICY, INJECT_LABEL, NUDGE, POLICY_LABEL, PROXY_CONTAINER

_ENDED: Final = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, slots=True)
class PodFacts:
    """A pod that runs, or will."""

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str]
    asks: bool
    """It has the label that asks for a proxy."""
    policy_label: str
    """The policy that its label chooses, or empty."""
    bound_policy: str
    """The policy whose document its proxy reads; empty if it has no proxy of ours."""
    address: str
    """Of the pod, once it has one; else empty."""
    proxy_started: bool
    proxy_restarts: int
    nudge: str
    """The annotation's value as it is, or empty."""


def read_pod(item: Resource) -> PodFacts | None:
    """The facts of a pod as the API server gives it; None if it is ending or has ended. Never raises."""
    metadata, status = _mapping(item.get("metadata")), _mapping(item.get("status"))
    if metadata.get("deletionTimestamp") is not None or status.get("phase") in _ENDED:
        return None
    labels, annotations = _texts(metadata.get("labels")), _texts(metadata.get("annotations"))
    proxy = _named(PROXY_CONTAINER, status.get("initContainerStatuses"))
    restarts = proxy.get("restartCount")
    return PodFacts(
        namespace=_text(metadata.get("namespace")),
        name=_text(metadata.get("name")),
        uid=_text(metadata.get("uid")),
        labels=labels,
        asks=labels.get(INJECT_LABEL) == "true",
        policy_label=labels.get(POLICY_LABEL, ""),
        bound_policy=annotations.get(BOUND_POLICY, "") if _has_proxy(item) else "",
        address=_text(status.get("podIP")),
        proxy_started=proxy.get("started") is True,
        proxy_restarts=restarts if isinstance(restarts, int) else 0,
        nudge=annotations.get(NUDGE, ""),
    )


def _has_proxy(item: Resource) -> bool:
    """By the sidecar itself: annotations are anybody's."""
    proxy = _named(PROXY_CONTAINER, _mapping(item.get("spec")).get("initContainers"))
    return proxy.get("restartPolicy") == "Always"


def _named(name: str, entries: Any) -> Mapping[str, Any]:
    entries = entries if isinstance(entries, list) else []
    return next((entry for entry in entries if isinstance(entry, dict) and entry.get("name") == name), {})


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(value: Any) -> dict[str, str]:
    return {key: text for key, text in _mapping(value).items() if isinstance(text, str)}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
