"""How Kubernetes and the engines read a pod: written again, from their documents, so that tests don't ask our own code.

`find_port` is endpointslice's FindPort; `listens_on` is what an engine makes of its command line and environment.
"""

import re
from typing import Any

Json = dict[str, Any]

DEFAULT_PORTS = {"TGI": 80, "VLLM": 8000, "SGLang": 30000, "LlamaCpp": 8080}
_DEFAULT_HOSTS = {"TGI": "0.0.0.0", "VLLM": "0.0.0.0", "SGLang": "127.0.0.1", "LlamaCpp": "0.0.0.0"}
_VARIABLES = {"TGI": ("HOSTNAME", "PORT"), "LlamaCpp": ("LLAMA_ARG_HOST", "LLAMA_ARG_PORT")}


def containers(pod: Json) -> list[Json]:
    return [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]


def find_port(pod: Json, name: str) -> tuple[str, int] | None:
    """Container and port that a Service with `targetPort: name` sends to."""
    sidecars = [c for c in pod["spec"].get("initContainers") or [] if c.get("restartPolicy") == "Always"]
    for container in [*pod["spec"]["containers"], *sidecars]:
        for port in container.get("ports") or []:
            if port.get("name") == name and port.get("protocol", "TCP") == "TCP":
                return container["name"], port["containerPort"]
    return None


def probe_port(container: Json, port: int | str) -> int:
    """What the kubelet dials for a probe or hook of `container`."""
    if isinstance(port, int):
        return port
    for declared in container.get("ports") or []:
        if declared.get("name") == port:
            assert isinstance(declared["containerPort"], int)
            return declared["containerPort"]
    return int(port)


def environment(container: Json) -> dict[str, str]:
    values: dict[str, str] = {}
    for entry in container.get("env") or []:
        values[entry["name"]] = _expand(entry.get("value", ""), values)
    return values


def words(container: Json) -> list[str]:
    values = environment(container)
    return [_expand(word, values) for word in [*(container.get("command") or []), *(container.get("args") or [])]]


def _expand(text: str, values: dict[str, str]) -> str:
    return re.sub(
        r"\$\$|\$\(([^)]*)\)", lambda m: "$" if m[0] == "$$" else values.get(m[1], m[0]) if m[1] else m[0], text
    )


def listens_on(container: Json, kind: str) -> tuple[str, int]:
    """Address and port; an engine of these kinds is started by its command line, without a shell."""
    host: str = _DEFAULT_HOSTS[kind]
    port = str(DEFAULT_PORTS[kind])
    values = environment(container)
    if kind in _VARIABLES:
        host_variable, port_variable = _VARIABLES[kind]
        host, port = values.get(host_variable, host), values.get(port_variable, port)
    given = iter(words(container))
    host_option = "--hostname" if kind == "TGI" else "--host"
    for word in given:
        name, equals, value = word.partition("=")
        if name == host_option:
            host = value if equals else next(given)
        elif name == "--port" or (kind == "TGI" and name == "-p"):
            port = value if equals else next(given)
        elif kind == "TGI" and re.fullmatch(r"-p\d+", word):
            port = word[2:]
    return host, int(port)


def is_guaranteed(pod: Json) -> bool:
    for container in containers(pod):
        resources = container.get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        for name in ("cpu", "memory"):
            if name not in limits or requests.get(name, limits[name]) != limits[name]:
                return False
    return True


def violations_of_restricted(pod: Json) -> list[str]:
    """Of the Pod Security Standard `restricted`, as of 1.36, what a test pod may get wrong."""
    spec = pod["spec"]
    of_pod = spec.get("securityContext") or {}
    found = [f"spec.{name}" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    safe = ("net.ipv4.ip_unprivileged_port_start", "net.ipv4.tcp_keepalive_time")
    found += [f"sysctl {entry['name']}" for entry in of_pod.get("sysctls") or [] if entry["name"] not in safe]
    allowed = {"name", "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim"}
    allowed |= {"projected", "secret"}
    found += [f"volume {volume['name']}" for volume in spec.get("volumes") or [] if set(volume) - allowed]
    for container in containers(pod):
        own = container.get("securityContext") or {}
        both = {**of_pod, **own}
        rules = {
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "capabilities": own.get("capabilities") == {"drop": ["ALL"]},
            "runAsNonRoot": both.get("runAsNonRoot") is True,
            "runAsUser": both.get("runAsUser") != 0,
            "seccompProfile": (both.get("seccompProfile") or {}).get("type") in ("RuntimeDefault", "Localhost"),
            "hostPort": not any(port.get("hostPort") for port in container.get("ports") or []),
        }
        found += [f"{container['name']}: {rule}" for rule, holds in rules.items() if not holds]
    return found
