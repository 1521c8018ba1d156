"""Policies, pods and Secrets as the API server gives them, and their facts."""

from datetime import UTC, datetime
from typing import Any

from fairqueue_operator.planning.judging import Judgement
from fairqueue_operator.planning.pod_facts import PodFacts, read_pod
from fairqueue_operator.planning.policy_facts import PolicyFacts, read_policy_facts
from fairqueue_operator.planning.programming import PodTotals, Programming
from fairqueue_operator.planning.secrets_view import LabelledSecret, Open
from fairqueue_operator.planning.verdicts import Verdict

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
NAMESPACE = "team"
REVISION = "a" * 64
KEYS = {"chat": b"chat-key\n", "batch": b"batch-key\n"}


def policy_item(name: str = "chat", created: str = "2026-11-01T10:00:00Z", **spec: Any) -> dict[str, Any]:
    """A policy whose selector is app=llm."""
    return {
        "apiVersion": "fairqueue.dev/v1alpha1",
        "kind": "FairnessPolicy",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": f"uid-{name}",
            "generation": 3,
            "creationTimestamp": created,
        },
        "spec": {"selector": {"matchLabels": {"app": "llm"}}, "engine": {"kind": "VLLM"}, **spec},
    }


def policy(name: str = "chat", created: str = "2026-11-01T10:00:00Z", **spec: Any) -> PolicyFacts:
    return read_policy_facts(policy_item(name, created, **spec))


def tenants(*names: str, secret: str = "keys") -> list[dict[str, Any]]:
    """Tenants with a key each, in the entry of the tenant's name."""
    return [{"name": name, "apiKeySecretRefs": [{"name": secret, "key": name}]} for name in names]


def pod_item(
    name: str = "llm-1", labels: dict[str, str] | None = None, *, bound: str = "", **status: Any
) -> dict[str, Any]:
    """A pod that asks for the proxy, with one that has started if it is `bound`."""
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": NAMESPACE,
        "uid": f"uid-{name}",
        "labels": {"app": "llm", "fairqueue.dev/inject": "true", **(labels or {})},
    }
    if not bound:
        return {"metadata": metadata, "spec": {"containers": []}, "status": {"phase": "Running", **status}}
    metadata["annotations"] = {
        "fairqueue.dev/bound-policy": bound,
        "fairqueue.dev/status": '{"hash":"0123456789abcdef","mode":"PortTakeover"}',
    }
    proxy = {"name": "fairqueue-proxy", "started": True, "restartCount": 0}
    return {
        "metadata": metadata,
        "spec": {"initContainers": [{"name": "fairqueue-proxy", "restartPolicy": "Always"}], "containers": []},
        "status": {"phase": "Running", "podIP": "10.0.0.7", "initContainerStatuses": [proxy], **status},
    }


def pod(name: str = "llm-1", labels: dict[str, str] | None = None, *, bound: str = "", **status: Any) -> PodFacts:
    facts = read_pod(pod_item(name, labels, bound=bound, **status))
    assert facts is not None
    return facts


def starting(name: str = "llm-1", bound: str = "chat") -> PodFacts:
    """A pod whose proxy has not started."""
    return pod(name, bound=bound, initContainerStatuses=[])


def api_keys(**data: bytes) -> LabelledSecret:
    return LabelledSecret(True, False, data)


def open_view(**data: bytes) -> Open:
    """One Secret of clients' keys, with these entries."""
    return Open({"keys": api_keys(**(data or KEYS))})


def judgement(accepted: Verdict | None = None, revision: str = REVISION) -> Judgement:
    return Judgement(accepted or Verdict("True", "Accepted", "In order."), None, revision, 2)


def programming(status: Any = "True", reason: str = "Programmed", ready: Verdict | None = None) -> Programming:
    found = Verdict(status, reason, f"It is {reason}.")
    return Programming(found, ready or found, PodTotals(2, 0, 2, 2, 2))
