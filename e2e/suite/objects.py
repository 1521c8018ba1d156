"""The objects that the tests apply: a policy, its keys and document, engines and what stands in front of them."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from fairqueue_api import check_policy, render

Json = dict[str, Any]

POLICY = "shared"
KEYS_SECRET = "keys"
ENGINE = "engine"
DOCUMENT = "document.json"
RESTRICTED: Json = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
LOW_PORTS = [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]
RESTRICTED_CONTAINER: Json = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
ENGINE_IMAGE, PROXY_IMAGE = "fairqueue/engine-sim:0.1.0", "fairqueue/proxy:0.1.0"


def key_of(tenant: str) -> str:
    """The API key of a tenant."""
    return f"key-of-{tenant}"


def policy(
    tenants: Mapping[str, int], *, name: str = POLICY, kind: str = "TGI", app: str = ENGINE, **spec: Any
) -> Json:
    """A FairnessPolicy for the pods of an app: tenants by weight, each with a key of the Secret `keys`."""
    return {
        "apiVersion": "fairqueue.dev/v1alpha1",
        "kind": "FairnessPolicy",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": app}},
            "engine": {"kind": kind, **spec.pop("engine", {})},
            "tenants": [
                {
                    "name": tenant,
                    "weight": weight,
                    "apiKeySecretRefs": [{"name": KEYS_SECRET, "key": tenant}],
                }
                for tenant, weight in tenants.items()
            ],
            **spec,
        },
    }


def keys(tenants: Sequence[str]) -> Json:
    """The Secret that the tenants' keys are in."""
    return secret(KEYS_SECRET, {tenant: key_of(tenant) for tenant in tenants}, {"fairqueue.dev/api-keys": "true"})


def secret(name: str, content: Mapping[str, str], labels: Mapping[str, str] | None = None) -> Json:
    """A Secret of texts."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": dict(labels or {})},
        "data": {key: base64.b64encode(text.encode()).decode() for key, text in content.items()},
    }


class _Keys:
    """Client keys, as `render` asks for them."""

    def read(self, name: str, key: str) -> bytes:
        if name != KEYS_SECRET:
            raise AssertionError(f"no Secret {name}")
        return key_of(key).encode()


def document(made: Mapping[str, Any]) -> str:
    """The document that the operator would render of a policy."""
    return render(check_policy(made, "policy"), _Keys()).to_json().decode()


def document_secret(made: Mapping[str, Any]) -> Json:
    """The Secret that pods of the policy mount."""
    return secret(f"{made['metadata']['name']}-fairqueue", {DOCUMENT: document(made)})


def engine_pod(
    *, app: str = ENGINE, options: Sequence[str] = (), inject: bool = True, low_ports: bool = False, **spec: Any
) -> Json:
    """A pod template like that of TGI's docs: port 80, of the image's environment; probes on the port.

    `low_ports`: the engine itself may open its port below 1024, where the injector does not see to it.
    """
    health = {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 1, "failureThreshold": 30}
    container = {
        "name": "engine",
        "image": ENGINE_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": ["--model-profile", "a10g-llama2-7b", *options],
        "ports": [{"name": "http", "containerPort": 80}],
        "startupProbe": health,
        "readinessProbe": {**health, "failureThreshold": 2},
        "livenessProbe": {**health, "periodSeconds": 5, "failureThreshold": 3},
        "securityContext": RESTRICTED_CONTAINER,
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
        **spec.pop("container", {}),
    }
    labels = {"app": app, **({"fairqueue.dev/inject": "true"} if inject else {}), **spec.pop("labels", {})}
    return {
        "metadata": {"labels": labels, "annotations": spec.pop("annotations", {})},
        "spec": {
            "securityContext": {**RESTRICTED, **({"sysctls": LOW_PORTS} if low_ports else {})},
            "automountServiceAccountToken": True,
            "containers": [container],
            **spec,
        },
    }


def deployment(template: Mapping[str, Any], *, name: str = ENGINE, replicas: int = 1, **spec: Any) -> Json:
    """A Deployment of such pods."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": template["metadata"]["labels"]["app"]}},
            "template": template,
            **spec,
        },
    }


def pod(template: Mapping[str, Any], *, name: str) -> Json:
    """One such pod by itself."""
    made = {"apiVersion": "v1", "kind": "Pod", **template}
    return {**made, "metadata": {**template["metadata"], "name": name}}


def service(*, name: str = ENGINE, app: str = ENGINE, port: int = 80, target: int | str = "http") -> Json:
    """A Service of an app's pods."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": app}, "ports": [{"port": port, "targetPort": target}]},
    }
