"""Pods and policies for tests of one thing each."""

from typing import Any

from fairqueue_api.models import FairnessPolicy
from fairqueue_api.structure import parse_structure
from fairqueue_operator.injection import Decision, Reason, decide
from injection.golden_files import SETTINGS, patched

Json = dict[str, Any]


def made_policy(kind: str = "VLLM", name: str = "shared", **spec: Any) -> FairnessPolicy:
    engine = {"kind": kind, **spec.pop("engine", {})}
    return parse_structure(
        {
            "apiVersion": "fairqueue.dev/v1alpha1",
            "kind": "FairnessPolicy",
            "metadata": {"name": name},
            "spec": {"selector": {"matchLabels": {"app": "llm"}}, "engine": engine, **spec},
        },
        "policy",
    )


def made_pod(*containers: Json, annotations: dict[str, str] | None = None, **spec: Any) -> Json:
    labels = {"app": "llm", "fairqueue.dev/inject": "true"}
    named = [{"name": f"c{number}", **container} for number, container in enumerate(containers)]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "llm", "labels": labels, "annotations": annotations or {}},
        "spec": {"containers": named, **spec},
    }


def injected(pod: Json, policy: FairnessPolicy) -> Json:
    decision = decide(pod, [policy], SETTINGS)
    assert decision.reason is Reason.INJECTED, decision.message
    after = patched(pod, decision)
    assert isinstance(after, dict)
    return after


def engine_after(container: Json, policy: FairnessPolicy) -> Json:
    """What becomes of the only container of a pod."""
    engine = injected(made_pod(container), policy)["spec"]["containers"][0]
    assert isinstance(engine, dict)
    return engine


def decided(container: Json, policy: FairnessPolicy) -> Decision:
    return decide(made_pod(container), [policy], SETTINGS)
