"""Pods whose policy was deleted: nothing is done to them, and they are told of."""

from collections.abc import Container, Iterable
from typing import Final

from ..event_notes import Note
from .pod_facts import PodFacts

REASON: Final = "PolicyDeleted"


def notes_on_orphans(pods: Iterable[PodFacts], policies: Container[str]) -> list[Note]:
    """One for each of `pods` (of one namespace) that is bound to none of its `policies`, on the pod itself."""
    return [_note(pod) for pod in pods if pod.bound_policy and pod.bound_policy not in policies]


def _note(pod: PodFacts) -> Note:
    text = (
        f"FairnessPolicy {pod.bound_policy} is not there any more: the pod's proxy keeps its last order. Apply the "
        f"policy again, or, when another one is to apply: kubectl -n {pod.namespace} delete pod {pod.name}"
    )
    return Note(pod.namespace, ("v1", "Pod", pod.name, pod.uid), REASON, text)
