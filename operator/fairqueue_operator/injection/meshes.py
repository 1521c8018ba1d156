"""Pods of a service mesh: how they are known, and what is written for the mesh's proxy.

Ours goes before the mesh's containers. It needs nothing of the mesh: it listens, and dials 127.0.0.1, which both
meshes leave alone. Behind a mesh container that redirects ports, ours would be started and probed through a proxy that
does not run yet. For the same reason, and so that kubelet, Prometheus and the operator reach it in a strict mesh, the
admin port is taken out of the mesh. The engine's port stays in: both meshes hand what they took to the pod's address or
to 127.0.0.1, and ours listens on both. A mesh that is injected after us moves itself to the front and keeps our probes
working.
"""

from typing import Final

from fairqueue_api.models import FairnessPolicy

from .names import ADMIN_PORT, Json
from .reasons import Reason, Warned

MESH_PROXIES: Final = ("istio-proxy", "linkerd-proxy")
_CONTAINERS: Final = (*MESH_PROXIES, "istio-init", "istio-validation", "linkerd-init", "linkerd-network-validator")
_ASKING: Final = {"sidecar.istio.io/inject": ("true",), "linkerd.io/inject": ("enabled", "ingress")}
_PORTS_LEFT_OUT: Final = ("traffic.sidecar.istio.io/excludeInboundPorts", "config.linkerd.io/skip-inbound-ports")


def is_in_mesh(pod: Json) -> bool:
    """Whether the pod shows a mesh; where a namespace asks for one, it does not."""
    spec, metadata = pod["spec"], pod["metadata"]
    said = {**metadata.get("labels", {}), **metadata.get("annotations", {})}
    containers = [*spec.get("initContainers", []), *spec["containers"]]
    return any(container["name"] in _CONTAINERS for container in containers) or any(
        said.get(name) in values for name, values in _ASKING.items()
    )


def leave_out_admin_port(pod: Json) -> None:
    annotations = pod["metadata"].setdefault("annotations", {})
    for name in _PORTS_LEFT_OUT:
        ports = [port.strip() for port in annotations.get(name, "").split(",") if port.strip()]
        if str(ADMIN_PORT) not in ports:
            annotations[name] = ",".join([*ports, str(ADMIN_PORT)])


def mesh_warnings(policy: FairnessPolicy) -> list[Warned]:
    """Identity by a header rests on who the TCP peer is."""
    cidrs = [
        cidr
        for source in policy.spec.identity.sources
        if source.header is not None
        for cidr in source.header.trusted_cidrs
    ]
    return [Warned(Reason.MESH_HIDES_PEERS, f"trustedCIDRs: {', '.join(cidrs)}")] if cidrs else []
