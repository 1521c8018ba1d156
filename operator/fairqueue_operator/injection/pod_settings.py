"""What changes in the pod around the proxy: how it ends, and who may open a port below 1024."""

from math import ceil
from typing import Final

from fairqueue_api.durations import DurationError, parse_duration
from fairqueue_api.models import FairnessPolicy

from .names import ADMIN_PORT, Json
from .ports import containers_of
from .reasons import Reason, Refused, Warned

_DEFAULT_GRACE_SECONDS: Final = 30
_BEYOND_DRAIN_SECONDS: Final = 30
_PROBES_THAT_END: Final = ("livenessProbe", "startupProbe")
_FIRST_PORT: Final = "net.ipv4.ip_unprivileged_port_start"
_PRIVILEGED_PORTS: Final = 1024


def raise_grace(pod: Json, policy: FairnessPolicy) -> int:
    """Gives the pod time to drain; returns its terminationGracePeriodSeconds, which is never lowered.

    Containers that a probe of theirs ends, as they hang, are given no more time than before: they need not drain.
    """
    try:
        drain = ceil(parse_duration(policy.spec.drain.timeout))
    except DurationError as error:
        raise Refused(Reason.BAD_POLICY, f"spec.drain.timeout {error.what}: {error.fix}") from None
    given = pod["spec"].get("terminationGracePeriodSeconds", _DEFAULT_GRACE_SECONDS)
    seconds = max(given, drain + _BEYOND_DRAIN_SECONDS)
    pod["spec"]["terminationGracePeriodSeconds"] = seconds
    if seconds > given:
        for container in containers_of(pod):
            for probe in (container.get(name) for name in _PROBES_THAT_END):
                if probe:
                    probe.setdefault("terminationGracePeriodSeconds", given)
    return int(seconds)


def wait_for_drain(engine: Json) -> list[Warned]:
    """Keeps the engine running until the proxy has drained: Kubernetes stops sidecars last, and the engine would go
    while requests wait.
    """
    lifecycle = engine.setdefault("lifecycle", {})
    if "preStop" in lifecycle:
        return [Warned(Reason.OWN_PRE_STOP, f"container {engine['name']}")]
    lifecycle["preStop"] = {"httpGet": {"path": "/-/drain/wait", "port": ADMIN_PORT}}
    return []


def open_port(pod: Json, port: int) -> list[Warned]:
    """Lets the proxy, which is not root and has no capabilities, listen on `port`. The sysctl is one that Pod Security
    `restricted` allows, and holds for the pod's own network only.
    """
    if port >= _PRIVILEGED_PORTS:
        return []
    sysctls = pod["spec"].setdefault("securityContext", {}).setdefault("sysctls", [])
    for entry in sysctls:
        if entry["name"] == _FIRST_PORT:
            return _lowered(entry, port)
    sysctls.append({"name": _FIRST_PORT, "value": "0"})
    return []


def _lowered(entry: Json, port: int) -> list[Warned]:
    value = entry["value"]
    if value.isascii() and value.isdigit() and int(value[:6]) <= port:
        return []
    entry["value"] = "0"
    return [Warned(Reason.SYSCTL_LOWERED, f"it was {value}")]
