"""Objects for `status` and `check`: an installation that is well, made from the manifests, and what runs on it."""

import base64
import copy
import json
from datetime import UTC, datetime
from typing import Any

from cli.kubernetes_server import KubernetesServer
from fairqueue_api.crd import manifest
from injector.leaves import AUTHORITY
from manifests.reading import objects_of

Json = dict[str, Any]
REVISION = "5f0e" + "0" * 60
METRICS = f"""# HELP fairqueue_queue_requests Requests queued in the proxy.
# TYPE fairqueue_queue_requests gauge
fairqueue_queue_requests{{tenant="alice"}} 3
fairqueue_queue_requests{{tenant="bob"}} 4
# TYPE fairqueue_in_flight_requests gauge
fairqueue_in_flight_requests{{tenant="alice"}} 1
fairqueue_in_flight_requests{{tenant="bob"}} 1
# TYPE fairqueue_config_info gauge
fairqueue_config_info{{policy="team/shared",revision="{REVISION}",mode="Enforce"}} 1
# TYPE fairqueue_config_reload_failures_total counter
fairqueue_config_reload_failures_total 0
"""
INJECTOR_METRICS = f"fairqueue_certificate_not_after_seconds {datetime(2099, 1, 1, tzinfo=UTC).timestamp()}\n"
_ALL = objects_of("overlays/default")


def install(server: KubernetesServer) -> None:
    """fairqueue as the manifests install it, all of it running."""
    for item in copy.deepcopy(_ALL):
        if item["kind"] in ("Namespace", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"):
            server.add(item)
        elif item["kind"] == "Deployment":
            server.add(available(item))
        elif item["kind"] == "MutatingWebhookConfiguration":
            item["webhooks"][0]["clientConfig"]["caBundle"] = base64.b64encode(AUTHORITY.certificate_pem).decode()
            server.add(item)
    server.add(crd(), own_pod("fairqueue-injector"), own_pod("fairqueue-operator"))
    server.answers["fairqueue-system", "fairqueue-injector-0:8080", "/metrics"] = INJECTOR_METRICS


def crd() -> Json:
    """As the API server gives it."""
    return {**copy.deepcopy(manifest()), "status": {"conditions": [condition("Established")]}}


def available(deployment: Json, replicas: int = 2) -> Json:
    wanted = deployment["spec"]["replicas"]
    conditions = [condition("Available", "True" if replicas else "False")]
    return {**deployment, "status": {"replicas": wanted, "availableReplicas": replicas, "conditions": conditions}}


def own_pod(deployment: str, **status: Any) -> Json:
    labels = {"app.kubernetes.io/name": deployment}
    metadata = {"name": f"{deployment}-0", "namespace": "fairqueue-system", "labels": labels}
    return {"kind": "Pod", "metadata": metadata, "status": {"conditions": [condition("Ready")], **status}}


def condition(kind: str, status: str = "True", reason: str = "", message: str = "", generation: int = 1) -> Json:
    return {
        "type": kind,
        "status": status,
        "reason": reason or kind,
        "message": message,
        "observedGeneration": generation,
    }


def policy(name: str = "shared", *, namespace: str = "team", generation: int = 1, **more: Any) -> Json:
    """One that is Ready; `more` replaces what its status says, `conditions` by their type."""
    conditions = {kind: condition(kind) for kind in ("Accepted", "Programmed", "Ready")} | more.pop("conditions", {})
    status = {
        "configRevision": REVISION,
        "tenants": 2,
        "pods": {"matched": 2, "unlabelled": 0, "injected": 2, "started": 2, "current": 2},
        "conditions": list(conditions.values()),
        **more,
    }
    return {
        "apiVersion": "fairqueue.dev/v1alpha1",
        "kind": "FairnessPolicy",
        "metadata": {"name": name, "namespace": namespace, "generation": generation},
        "spec": {
            "selector": {"matchLabels": {"app": "engine"}},
            "engine": {"kind": "TGI"},
            "tenants": [{"name": "alice"}, {"name": "bob"}],
        },
        "status": status,
    }


def not_ready(kind: str, reason: str, message: str, status: str = "False", **more: Any) -> Json:
    """A policy of which that condition does not hold."""
    conditions = {kind: condition(kind, status, reason, message), "Ready": condition("Ready", "False", reason, message)}
    if kind == "Accepted":
        conditions["Programmed"] = condition("Programmed", "False", "Pending")
    return policy(conditions=conditions, **more)


def pod(name: str = "engine-7f-a", *, namespace: str = "team", bound: str | None = "shared", **more: Any) -> Json:
    """One that the injector made; or with `bound=None` one that asks for the proxy and has none."""
    labels = more.pop("labels", {"app": "engine", "fairqueue.dev/inject": "true", "pod-template-hash": "7f"})
    annotations = dict(more.pop("annotations", {}))
    status: Json = {"phase": "Running", "conditions": [condition("Ready")], **more.pop("status", {})}
    spec: Json = {"containers": [{"name": "engine"}]}
    if bound is not None:
        written = {"version": more.pop("version", "0.1.0"), "policy": bound, "hash": "h"}
        annotations |= {"fairqueue.dev/bound-policy": bound, "fairqueue.dev/status": json.dumps(written)}
        spec["initContainers"] = [{"name": "fairqueue-proxy", "restartPolicy": "Always"}]
        status.setdefault("initContainerStatuses", [{"name": "fairqueue-proxy", "started": True}])
    owner = {"kind": "ReplicaSet", "name": "engine-7f", "controller": True}
    metadata = {"name": name, "namespace": namespace, "labels": labels, "annotations": annotations}
    return {
        "kind": "Pod",
        "metadata": {**metadata, "ownerReferences": [owner], **more},
        "spec": spec,
        "status": status,
    }


def failed_create(
    kind: str, name: str, message: str, *, namespace: str = "team", at: str = "2026-11-01T12:00:00Z"
) -> Json:
    """An Event of a controller."""
    about = {"kind": kind, "namespace": namespace, "name": name}
    metadata = {"name": f"{name}.{at}", "namespace": namespace}
    return {
        "kind": "Event",
        "metadata": metadata,
        "reason": "FailedCreate",
        "message": message,
        "involvedObject": about,
        "lastTimestamp": at,
    }
