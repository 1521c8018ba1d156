"""The ports of a pod's containers: which are in use, and moving the engine's to the proxy with its name.

Kubernetes looks a Service's named port up in the main containers first, then in sidecars. So a name that moves must be
gone from the main containers, the engine's included, and nobody else may have it.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from .names import (
    ADMIN_PORT,
    ADMIN_PORT_NAME,
    DATA_PORT_NAME,
    ENGINE_PORT_NAME,
    LOCAL_PORT,
    SIDECAR_ONLY_PORT,
    Json,
)
from .reasons import Reason, Refused

_ABOVE: Final = 10_000
_HIGHEST: Final = 65_535
# Above the ports from which Linux takes those of outgoing connections.
_FALLBACK: Final = range(61_000, _HIGHEST + 1)
_FOUR_OR_FIVE_DIGITS: Final = re.compile(r"(?<!\d)\d{4,5}(?!\d)")
_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")


def containers_of(pod: Json) -> list[Json]:
    spec = pod["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def refuse_ports_in_use(pod: Json, engine: Json, port: int | None) -> None:
    """The proxy's own ports are nobody's, and `port`, if it is to be the proxy's, only the engine's."""
    if port in (ADMIN_PORT, LOCAL_PORT):
        raise Refused(Reason.PORT_TAKEN, f"{port}, which the proxy itself has, is the port of {engine['name']}")
    for container in containers_of(pod):
        for declared in _tcp_ports(container):
            number = declared["containerPort"]
            if number in (ADMIN_PORT, LOCAL_PORT) or (number == port and container is not engine):
                raise Refused(Reason.PORT_TAKEN, f"{number} in container {container['name']}")


def port_for_engine(pod: Json, port: int) -> int:
    """Where the engine moves to: 10,000 above, or else a high port that nothing in the pod mentions."""
    return _first_free(pod, port, [port + _ABOVE, *_FALLBACK])


def port_beside(pod: Json, port: int) -> int:
    """Where the proxy listens that leaves the engine its port."""
    return _first_free(pod, port, range(SIDECAR_ONLY_PORT, _HIGHEST + 1))


def _first_free(pod: Json, port: int, candidates: Sequence[int]) -> int:
    in_use = _mentioned(pod) | {port}
    for candidate in candidates:
        if candidate <= _HIGHEST and candidate not in in_use:
            return candidate
    raise Refused(Reason.PORT_TAKEN, f"of {len(candidates)} ports, none is left")


def _mentioned(pod: Json) -> set[int]:
    """Every port that is declared, and every number in arguments and variables that may be one."""
    texts = [
        text
        for container in containers_of(pod)
        for text in (
            *container.get("command", []),
            *container.get("args", []),
            *(entry.get("value", "") for entry in container.get("env", [])),
        )
    ]
    numbers = {int(number) for text in texts for number in _FOUR_OR_FIVE_DIGITS.findall(text)}
    declared = {port["containerPort"] for container in containers_of(pod) for port in container.get("ports", [])}
    return numbers | declared | {ADMIN_PORT, LOCAL_PORT}


def move_port(pod: Json, engine: Json, port: int, engine_port: int) -> list[Json]:
    """Takes `port` from the engine's container, which gets `engine_port`; returns the proxy's entries for it."""
    moved = [declared for declared in _tcp_ports(engine) if declared["containerPort"] == port]
    if any(declared.get("hostPort") for declared in moved):
        raise Refused(Reason.HOST_PORT, f"hostPort of port {port} in container {engine['name']}")
    names = [declared["name"] for declared in moved if "name" in declared]
    entries = [{"name": name, "containerPort": port, "protocol": "TCP"} for name in names or [DATA_PORT_NAME]]
    if moved:
        first = engine["ports"].index(moved[0])
        kept = [declared for declared in engine["ports"] if not any(declared is one for one in moved)]
        own = {"name": _free_name(pod), "containerPort": engine_port, "protocol": "TCP"}
        engine["ports"] = [*kept[:first], own, *kept[first:]]
        _resolve_names(engine, dict.fromkeys(names, port))
    return entries


def sidecar_ports(pod: Json, data_ports: list[Json]) -> list[Json]:
    """All ports of the proxy's container. Raises `Refused` where another one has a port of the same name."""
    ports = [*data_ports, {"name": ADMIN_PORT_NAME, "containerPort": ADMIN_PORT, "protocol": "TCP"}]
    names = {port["name"] for port in ports}
    for container in containers_of(pod):
        for declared in container.get("ports", []):
            if declared.get("name") in names:
                raise Refused(Reason.PORT_NAME_SHARED, f"port {declared['name']} of container {container['name']}")
    return ports


def _tcp_ports(container: Json) -> Iterator[Json]:
    for declared in container.get("ports", []):
        if declared.get("protocol", "TCP") == "TCP":
            yield declared


def _free_name(pod: Json) -> str:
    taken = {declared.get("name") for container in containers_of(pod) for declared in container.get("ports", [])}
    names = (ENGINE_PORT_NAME, *(f"{ENGINE_PORT_NAME}-{number}" for number in range(1, len(taken) + 1)))
    return next(name for name in names if name not in taken)


def _resolve_names(engine: Json, numbers: dict[str, int]) -> None:
    """Probes and hooks look a port's name up in their own container, where it is no longer."""
    lifecycle = engine.get("lifecycle", {})
    handlers = [
        *(engine.get(probe, {}) for probe in _PROBES),
        *(lifecycle.get(k, {}) for k in ("postStart", "preStop")),
    ]
    for handler in handlers:
        for action in (handler.get("httpGet", {}), handler.get("tcpSocket", {})):
            if action.get("port") in numbers:
                action["port"] = numbers[action["port"]]
