"""Pods as people may write them, and some that make no sense, with a policy for each."""

import json
from typing import Any

from hypothesis import strategies as st

from fairqueue_api.models import FairnessPolicy
from fairqueue_api.structure import parse_structure

Json = dict[str, Any]

KINDS = ("TGI", "VLLM", "SGLang", "LlamaCpp")
_PROGRAMS = {
    "TGI": ["text-generation-launcher"],
    "VLLM": ["python3", "-m", "vllm.entrypoints.openai.api_server"],
    "SGLang": ["python3", "-m", "sglang.launch_server"],
    "LlamaCpp": ["/app/llama-server"],
}
_HOSTS = ("0.0.0.0", "::", "127.0.0.1", "$(ADDRESS)")
_PORTS = ("80", "3000", "8000", "8080", "18000", "30000", "55536", "65535", "$(NUMBER)")
_NAMES = ("http", "metrics", "engine", "engine-1", "grpc")
_NUMBERS = (80, 3000, 8000, 8080, 18000, 18080, 30000, 40000, 61000, 9400)
_USAGE = "fairqueue.dev/usage-volume"
_ANNOTATIONS = (
    {},
    {"fairqueue.dev/proxy-cpu-limit": "2"},
    *({_USAGE: name} for name in ("usage", "usage", "settings")),
)


def _options(kind: str) -> st.SearchStrategy[list[str]]:
    host = "--hostname" if kind == "TGI" else "--host"
    forms: list[st.SearchStrategy[list[str]]] = [
        st.sampled_from(_HOSTS).map(lambda value: [host, value]),
        st.sampled_from(_HOSTS).map(lambda value: [f"{host}={value}"]),
        st.sampled_from(_PORTS).map(lambda value: ["--port", value]),
        st.sampled_from(_PORTS).map(lambda value: [f"--port={value}"]),
        st.just(["--model", "a/b"]),
        st.just(["--max-num-seqs", "16"]),
    ]
    if kind == "TGI":
        forms.append(st.sampled_from(_PORTS[:4]).map(lambda value: [f"-p{value}"]))
        forms.append(st.sampled_from(_PORTS).map(lambda value: ["-p", value]))
    return st.lists(st.one_of(forms), max_size=4).map(lambda lists: [word for words in lists for word in words])


def _entries(name: str, values: tuple[str, ...]) -> st.SearchStrategy[Json]:
    hidden = {"name": name, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    return st.sampled_from([hidden, *({"name": name, "value": value} for value in values)])


def _env(kind: str) -> st.SearchStrategy[list[Json]]:
    host, port = ("HOSTNAME", "PORT") if kind == "TGI" else ("LLAMA_ARG_HOST", "LLAMA_ARG_PORT")
    entries = (
        _entries("NUMBER", _PORTS[:-1]),
        _entries("ADDRESS", _HOSTS[:-1]),
        _entries(host, _HOSTS),
        _entries(port, _PORTS),
        _entries("TOKEN", ("secret",)),
    )
    return st.lists(st.one_of(*entries), max_size=4)


_ports = st.lists(
    st.fixed_dictionaries(
        {"containerPort": st.sampled_from(_NUMBERS)},
        optional={"name": st.sampled_from(_NAMES), "protocol": st.sampled_from(["TCP", "TCP", "UDP"])},
    ),
    max_size=3,
    # Kubernetes refuses a name that a container has twice.
    unique_by=lambda port: port.get("name", port["containerPort"]),
)
_quantities = st.sampled_from([{"cpu": "1", "memory": "1Gi"}, {"cpu": "1"}, {"nvidia.com/gpu": "1"}])
_resources = st.fixed_dictionaries({}, optional={"limits": _quantities, "requests": _quantities})


@st.composite
def _probes(draw: st.DrawFn, ports: list[Json]) -> Json:
    names = [port["name"] for port in ports if "name" in port]
    action: st.SearchStrategy[Json] = st.builds(
        lambda kind, port: {kind: {"port": port}},
        st.sampled_from(["httpGet", "tcpSocket"]),
        st.sampled_from([*names, 8000]),
    )
    probes: Json = draw(st.fixed_dictionaries({}, optional={"readinessProbe": action, "livenessProbe": action}))
    lifecycle: Json = draw(st.fixed_dictionaries({}, optional={"postStart": action, "preStop": action}))
    return {**probes, "lifecycle": lifecycle} if lifecycle else probes


@st.composite
def _engine(draw: st.DrawFn, kind: str) -> Json:
    ports = draw(_ports)
    container: Json = {"name": "main", "image": "example/engine:1", **draw(_probes(ports))}
    if draw(st.booleans()):
        container["command"] = list(_PROGRAMS[kind])
    if draw(st.integers(0, 3)):
        container["args"] = draw(_options(kind))
    if draw(st.booleans()):
        container["env"] = draw(_env(kind))
    if ports:
        container["ports"] = ports
    if draw(st.booleans()):
        container["resources"] = draw(_resources)
    return container


@st.composite
def _other(draw: st.DrawFn, name: str) -> Json:
    ports = draw(_ports)
    container: Json = {"name": name, "image": "busybox:1", "ports": ports, **draw(_probes(ports))}
    if draw(st.booleans()):
        container["resources"] = draw(_resources)
    return container


@st.composite
def pods(draw: st.DrawFn, kind: str) -> Json:
    containers = [draw(_engine(kind))]
    if draw(st.integers(0, 2)) == 0:
        containers.insert(draw(st.integers(0, 1)), draw(_other("other")))
    spec: Json = {"containers": containers}
    if draw(st.integers(0, 2)) == 0:
        first = draw(_other("first"))
        spec["initContainers"] = [{**first, "restartPolicy": "Always"} if draw(st.booleans()) else first]
    if draw(st.booleans()):
        spec["terminationGracePeriodSeconds"] = draw(st.sampled_from([0, 30, 600]))
    if draw(st.integers(0, 3)) == 0:
        start = draw(st.sampled_from(["0", "80", "1024"]))
        spec["securityContext"] = {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": start}]}
    if draw(st.booleans()):
        spec["volumes"] = [
            {"name": name, kind: {}} for name, kind in (("usage", "emptyDir"), ("settings", "configMap"))
        ]
    metadata: Json = {"name": "llm", "labels": {"app": "llm", "fairqueue.dev/inject": "true"}}
    if draw(st.booleans()):
        metadata["annotations"] = draw(st.sampled_from(_ANNOTATIONS))
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    # As it comes over the wire: no part of it is another part, too, which would change with it.
    return dict(json.loads(json.dumps(pod)))


@st.composite
def policies(draw: st.DrawFn, kind: str) -> FairnessPolicy:
    engine: Json = {"kind": kind, "container": "main"}
    if draw(st.booleans()):
        engine["port"] = draw(st.sampled_from(_NUMBERS))
    mode = draw(st.sampled_from(["PortTakeover", "PortTakeover", "SidecarOnly"]))
    return parse_structure(
        {
            "apiVersion": "fairqueue.dev/v1alpha1",
            "kind": "FairnessPolicy",
            "metadata": {"name": "shared"},
            "spec": {"selector": {"matchLabels": {"app": "llm"}}, "engine": engine, "injection": {"mode": mode}},
        },
        "policy",
    )
