"""Policies and pods as an API server gives them."""

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]


def policy(
    name: str = "shared",
    *,
    namespace: str = "team",
    labels: Mapping[str, str] | None = None,
    uid: str = "",
    generation: int = 1,
    status: Mapping[str, Any] | None = None,
    **spec: Any,
) -> Json:
    """For the pods of an app, without keys."""
    metadata = {
        "namespace": namespace,
        "name": name,
        "uid": uid or f"uid-of-{name}",
        "generation": generation,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "resourceVersion": "1",
    }
    return {
        "apiVersion": "fairqueue.dev/v1alpha1",
        "kind": "FairnessPolicy",
        "metadata": metadata,
        "spec": {
            "selector": {"matchLabels": dict(labels or {"app": "engine"})},
            "engine": {"kind": "TGI"},
            "tenants": [{"name": "alice"}],
            **spec,
        },
        **({} if status is None else {"status": dict(status)}),
    }


def pod(
    name: str = "engine-0",
    *,
    namespace: str = "team",
    labels: Mapping[str, str] | None = None,
    bound: str = "shared",
    address: str = "10.0.0.1",
    started: bool = True,
    restarts: int = 0,
    nudge: str = "",
    asks: bool = True,
) -> Json:
    """One that has the proxy of the policy to which it is bound, or none."""
    annotations = {"fairqueue.dev/bound-policy": bound} if bound else {}
    if nudge:
        annotations["fairqueue.dev/config-nudge"] = nudge
    asking = {"fairqueue.dev/inject": "true"} if asks else {}
    proxy = {"name": "fairqueue-proxy", "restartPolicy": "Always"}
    return {
        "metadata": {
            "namespace": namespace,
            "name": name,
            "uid": f"uid-of-{name}",
            "labels": {**(labels or {"app": "engine"}), **asking},
            "annotations": annotations,
        },
        "spec": {"initContainers": [proxy] if bound else [], "containers": [{"name": "engine"}]},
        "status": {
            "phase": "Running",
            "podIP": address,
            "initContainerStatuses": [{"name": "fairqueue-proxy", "started": started, "restartCount": restarts}],
        },
    }
