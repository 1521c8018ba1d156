"""The proxy's container and its volumes.

They pass Pod Security `restricted`. There is no `fsGroup`: it might change the owner of every file on a volume of
models.
"""

from dataclasses import dataclass
from typing import Final

from .listening import LOOPBACK
from .names import (
    ADMIN_PORT,
    CONFIG_VOLUME,
    LOCAL_PORT,
    NO_TOKEN_VOLUME,
    PROXY_CONTAINER,
    RUN_VOLUME,
    Json,
    secret_name,
)
from .settings import InjectionSettings

_CONFIG_FOLDER: Final = "/etc/fairqueue"
_RUN_FOLDER: Final = "/run/fairqueue"
_TOKEN_FOLDER: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
_USAGE_FOLDER: Final = "/usage"
_USER: Final = 65_532


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What differs from pod to pod."""

    policy: str
    engine_kind: str
    port: int
    """Where the proxy listens."""
    engine_port: int
    """Where the engine does, as seen from within the pod."""
    ports: list[Json]
    grace_seconds: int
    batch_limit: int | None
    resources: Json
    usage_volume: str | None = None


def sidecar_container(sidecar: Sidecar, settings: InjectionSettings) -> Json:
    container: Json = {
        "name": PROXY_CONTAINER,
        "image": settings.image,
        # A sidecar, since Kubernetes 1.29: started before, and stopped after, the containers that follow.
        "restartPolicy": "Always",
        # Written out, so that the image's ENTRYPOINT does not matter.
        "command": ["fairqueue"],
        "args": _arguments(sidecar, settings),
        "ports": sidecar.ports,
        "startupProbe": _probe("/-/live", periodSeconds=1, timeoutSeconds=3, failureThreshold=120),
        "readinessProbe": _probe("/-/ready", periodSeconds=2, timeoutSeconds=3, failureThreshold=3),
        # A proxy that hangs is not waited for.
        "livenessProbe": _probe(
            "/-/live", periodSeconds=10, timeoutSeconds=5, failureThreshold=6, terminationGracePeriodSeconds=5
        ),
        "lifecycle": {"preStop": {"exec": {"command": ["fairqueue-drain"]}}},
        "resources": sidecar.resources,
        "securityContext": _security_context(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": CONFIG_VOLUME, "mountPath": _CONFIG_FOLDER, "readOnly": True},
            {"name": RUN_VOLUME, "mountPath": _RUN_FOLDER},
            # Kubernetes mounts the ServiceAccount's token where nothing is mounted yet; the proxy needs none.
            {"name": NO_TOKEN_VOLUME, "mountPath": _TOKEN_FOLDER, "readOnly": True},
        ],
    }
    if sidecar.usage_volume is not None:
        container["volumeMounts"].append({"name": sidecar.usage_volume, "mountPath": _USAGE_FOLDER})
    if settings.image_pull_policy is not None:
        container["imagePullPolicy"] = settings.image_pull_policy
    return container


def sidecar_volumes(policy: str) -> list[Json]:
    return [
        # Optional: the pod may be there before the operator has rendered the document. Readable for all, as it is
        # mounted nowhere else and the files belong to root.
        {
            "name": CONFIG_VOLUME,
            "secret": {"secretName": secret_name(policy), "optional": True, "defaultMode": 0o444},
        },
        {"name": RUN_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
        {"name": NO_TOKEN_VOLUME, "emptyDir": {"sizeLimit": "1Mi"}},
    ]


def _arguments(sidecar: Sidecar, settings: InjectionSettings) -> list[str]:
    arguments = ["serve", "--config", _CONFIG_FOLDER]
    arguments += ["--engine", f"http://{LOOPBACK}:{sidecar.engine_port}", "--engine-kind", sidecar.engine_kind]
    arguments += ["--listen", f"{settings.listen_address}:{sidecar.port}"]
    arguments += ["--admin", f"{settings.listen_address}:{ADMIN_PORT}", "--local", f"{LOOPBACK}:{LOCAL_PORT}"]
    arguments += ["--last-good", f"{_RUN_FOLDER}/document.json"]
    arguments += ["--termination-grace-seconds", str(sidecar.grace_seconds)]
    if sidecar.batch_limit is not None:
        arguments += ["--batch-limit", str(sidecar.batch_limit)]
    if sidecar.usage_volume is not None:
        arguments += ["--usage-log", _USAGE_FOLDER]
    return arguments


def _probe(path: str, **numbers: int) -> Json:
    return {"httpGet": {"path": path, "port": ADMIN_PORT}, **numbers}


def _security_context() -> Json:
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": _USER,
        "runAsGroup": _USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
