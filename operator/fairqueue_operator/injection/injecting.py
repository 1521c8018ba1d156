"""Putting the proxy into a pod: the order of the steps, each of which is a module of its own."""

from dataclasses import dataclass

from fairqueue_api.models import FairnessPolicy

from .batch_limit import batch_limit
from .engine_container import engine_container
from .engine_kinds import ENGINE_KINDS
from .listening import how_to_tell, listening_port, refuse_other_transports, tell
from .meshes import is_in_mesh, leave_out_admin_port, mesh_warnings
from .names import DATA_PORT_NAME, Json
from .plain_scripts import unwrap
from .pod_settings import open_port, raise_grace, wait_for_drain
from .ports import move_port, port_beside, port_for_engine, refuse_ports_in_use, sidecar_ports
from .reasons import Reason, Refused, Warned
from .resources import sidecar_resources
from .settings import InjectionSettings
from .sidecar import Sidecar, sidecar_container, sidecar_volumes
from .status import bind, spec_hash, write_status
from .usage_volume import usage_volume


@dataclass(frozen=True, slots=True)
class _Ports:
    proxy: int
    engine: int
    entries: list[Json]


def inject(pod: Json, policy: FairnessPolicy, settings: InjectionSettings) -> list[Warned]:
    """Changes `pod`, which has its shape, so that `policy` holds in it. Raises `Refused`, having changed anything."""
    spec = pod["spec"]
    if spec.get("hostNetwork"):
        raise Refused(Reason.HOST_NETWORK, "spec.hostNetwork is true")
    engine = engine_container(spec["containers"], policy.spec.engine)
    kind = ENGINE_KINDS[policy.spec.engine.kind]
    refuse_other_transports(engine, kind)
    resources, usage = sidecar_resources(pod, settings), usage_volume(pod)
    ports = _take_port(pod, engine, policy) if _takes_port(policy) else _stand_beside(pod, engine, policy)
    warnings = _prepare(pod, engine, policy, settings)
    if _takes_port(policy):
        warnings += open_port(pod, ports.proxy)
    sidecar = Sidecar(
        policy=policy.metadata.name,
        engine_kind=policy.spec.engine.kind,
        port=ports.proxy,
        engine_port=ports.engine,
        ports=ports.entries,
        grace_seconds=raise_grace(pod, policy),
        batch_limit=batch_limit(engine, kind),
        resources=resources,
        usage_volume=usage,
    )
    _insert(pod, engine, policy, sidecar, warnings, settings)
    return warnings


def _takes_port(policy: FairnessPolicy) -> bool:
    return policy.spec.injection.mode == "PortTakeover"


def _take_port(pod: Json, engine: Json, policy: FairnessPolicy) -> _Ports:
    kind = ENGINE_KINDS[policy.spec.engine.kind]
    unwrap(engine, kind)
    port = listening_port(engine, policy.spec.engine, kind)
    refuse_ports_in_use(pod, engine, port)
    engine_port = port_for_engine(pod, port)
    tell(engine, kind, how_to_tell(policy.spec.engine, kind), engine_port)
    return _Ports(port, engine_port, sidecar_ports(pod, move_port(pod, engine, port, engine_port)))


def _stand_beside(pod: Json, engine: Json, policy: FairnessPolicy) -> _Ports:
    port = listening_port(engine, policy.spec.engine, ENGINE_KINDS[policy.spec.engine.kind])
    refuse_ports_in_use(pod, engine, None)
    beside = port_beside(pod, port)
    entry = {"name": DATA_PORT_NAME, "containerPort": beside, "protocol": "TCP"}
    return _Ports(beside, port, sidecar_ports(pod, [entry]))


def _prepare(pod: Json, engine: Json, policy: FairnessPolicy, settings: InjectionSettings) -> list[Warned]:
    warnings = wait_for_drain(engine)
    if settings.in_mesh or is_in_mesh(pod):
        leave_out_admin_port(pod)
        warnings += mesh_warnings(policy)
    return warnings


def _insert(
    pod: Json,
    engine: Json,
    policy: FairnessPolicy,
    sidecar: Sidecar,
    warnings: list[Warned],
    settings: InjectionSettings,
) -> None:
    spec = pod["spec"]
    container, volumes = sidecar_container(sidecar, settings), sidecar_volumes(sidecar.policy)
    spec["initContainers"] = [container, *spec.get("initContainers", [])]
    spec["volumes"] = [*spec.get("volumes", []), *volumes]
    bind(pod, sidecar.policy)
    status = {
        "version": settings.version,
        "policy": sidecar.policy,
        "mode": policy.spec.injection.mode,
        "engineContainer": engine["name"],
        "port": sidecar.port,
        "enginePort": sidecar.engine_port,
        "warnings": [warned.reason.event_reason for warned in warnings],
        "hash": spec_hash([container, volumes]),
    }
    write_status(pod, status)
