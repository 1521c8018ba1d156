"""What holds for every pod that the proxy was put into, whatever pod it was: called on golden files and random pods."""

import json
from typing import Any

from fairqueue_api.models import FairnessPolicy
from fairqueue_operator.injection import Decision, InjectionSettings, Reason, decide
from injection.golden_files import patched
from injection.kubernetes_models import (
    containers,
    find_port,
    is_guaranteed,
    listens_on,
    probe_port,
    violations_of_restricted,
)

Json = dict[str, Any]
_PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def check_injected(before: Json, decision: Decision, policy: FairnessPolicy, settings: InjectionSettings) -> None:
    after = patched(before, decision)
    status = json.loads(after["metadata"]["annotations"]["fairqueue.dev/status"])
    proxy, *others = after["spec"]["initContainers"]
    assert proxy["name"] == "fairqueue-proxy"
    assert proxy["restartPolicy"] == "Always"
    assert others == [_with_probe_grace(it, before, after) for it in before["spec"].get("initContainers") or []]
    assert [c["name"] for c in after["spec"]["containers"]] == [c["name"] for c in before["spec"]["containers"]]
    _check_ports(before, after, proxy, status)
    _check_probes(before, after, status)
    _check_end(before, after, proxy)
    _check_usage(before, after, proxy)
    assert is_guaranteed(before) == is_guaranteed(after) or before["spec"].get("resources")
    new = set(violations_of_restricted(after)) - set(violations_of_restricted(before))
    assert not new
    again = decide(after, [policy], settings)
    assert (again.reason, again.patch) == (Reason.ALREADY_INJECTED, ())


def check_engine(after: Json, kind: str) -> None:
    """The engine, started without a shell, listens on loopback and the port that the proxy dials, and nowhere else."""
    status = json.loads(after["metadata"]["annotations"]["fairqueue.dev/status"])
    (engine,) = (c for c in after["spec"]["containers"] if c["name"] == status["engineContainer"])
    assert listens_on(engine, kind) == ("127.0.0.1", status["enginePort"])
    assert option(after["spec"]["initContainers"][0], "--engine") == f"http://127.0.0.1:{status['enginePort']}"


def option(container: Json, name: str) -> str:
    arguments = container["args"]
    value = arguments[arguments.index(name) + 1]
    assert isinstance(value, str)
    return value


def _names(container: Json) -> list[str]:
    return [port["name"] for port in container.get("ports") or [] if "name" in port]


def _check_ports(before: Json, after: Json, proxy: Json, status: Json) -> None:
    others = [container for container in containers(after) if container is not proxy]
    for container in others:
        assert not set(_names(container)) & set(_names(proxy))
        assert len(set(_names(container))) == len(container_names := _names(container)), container_names
    port, engine_port = status["port"], status["enginePort"]
    assert option(proxy, "--listen").endswith(f":{port}")
    assert port in [declared["containerPort"] for declared in proxy["ports"]]
    for container in others:
        for declared in container.get("ports") or []:
            if declared.get("protocol", "TCP") == "TCP":
                assert declared["containerPort"] not in (port, 9820, 9821)
    if status["mode"] == "PortTakeover":
        declared_before = [p["containerPort"] for c in containers(before) for p in c.get("ports") or []]
        assert engine_port not in (*declared_before, 9820, 9821)
    for name in {name for container in containers(before) for name in _names(container)}:
        was, now = find_port(before, name), find_port(after, name)
        assert was is None or now is not None
        if was is not None and now is not None:
            # What a Service sends where, stays; only the engine's port is the proxy's now.
            assert now[1] == was[1]
            moved = status["mode"] == "PortTakeover" and was == (status["engineContainer"], port)
            assert now[0] == ("fairqueue-proxy" if moved else was[0])


def _check_probes(before: Json, after: Json, status: Json) -> None:
    for old, new in zip(before["spec"]["containers"], after["spec"]["containers"], strict=True):
        for name in _PROBES:
            for action in ("httpGet", "tcpSocket"):
                was = (old.get(name) or {}).get(action)
                if was:
                    assert probe_port(new, new[name][action]["port"]) == probe_port(old, was["port"])
            grace = "terminationGracePeriodSeconds"
            expected = (_with_probe_grace(old, before, after).get(name) or {}).get(grace)
            assert (new.get(name) or {}).get(grace) == expected
        if new["name"] == status["engineContainer"]:
            assert "preStop" in new["lifecycle"]
            own = ((old.get("lifecycle") or {}).get("preStop")) is not None
            assert ("OwnPreStop" in status["warnings"]) == own


def _with_probe_grace(container: Json, before: Json, after: Json) -> Json:
    """What hangs has the time that it had, where the pod has more now."""
    given = before["spec"].get("terminationGracePeriodSeconds")
    given = 30 if given is None else given
    if after["spec"]["terminationGracePeriodSeconds"] == given:
        return container
    probes = {
        name: {"terminationGracePeriodSeconds": given, **container[name]}
        for name in ("startupProbe", "livenessProbe")
        if container.get(name)
    }
    return {**container, **probes}


def _check_end(before: Json, after: Json, proxy: Json) -> None:
    grace = after["spec"]["terminationGracePeriodSeconds"]
    assert grace >= (before["spec"].get("terminationGracePeriodSeconds") or 30)
    assert option(proxy, "--termination-grace-seconds") == str(grace)


def _check_usage(before: Json, after: Json, proxy: Json) -> None:
    """The pod's volume is the proxy's folder; nobody else gets another one."""
    name = (before["metadata"].get("annotations") or {}).get("fairqueue.dev/usage-volume")
    found = [mount["name"] for mount in proxy["volumeMounts"] if mount["mountPath"] == "/usage"]
    assert found == ([] if name is None else [name])
    assert ("--usage-log" in proxy["args"]) == bool(found)
    assert not found or option(proxy, "--usage-log") == "/usage"
    for old, new in zip(before["spec"]["containers"], after["spec"]["containers"], strict=True):
        assert new.get("volumeMounts") == old.get("volumeMounts")
