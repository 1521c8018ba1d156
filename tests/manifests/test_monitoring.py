"""The component `monitoring`: its PodMonitors lead to what is there, under the names that the alerts know, and the real
definitions of prometheus-operator take all of it."""

import re
import subprocess

import jsonschema_rs
import pytest

from api.api_server import strict
from fairqueue_operator.injection.names import ADMIN_PORT
from injection.making import injected, made_pod, made_policy
from manifests.reading import MANIFESTS, Json, objects, objects_of, one
from prometheus_operator import definitions

COMPONENT = objects_of("components/monitoring")
MONITORS = [each for each in COMPONENT if each["kind"] == "PodMonitor"]
GROUP, KINDS = "monitoring.coreos.com/v1", {"PodMonitor", "PrometheusRule"}


def endpoint(monitor: Json) -> Json:
    (only,) = monitor["spec"]["podMetricsEndpoints"]
    return only


def job(monitor: Json) -> str:
    (rule,) = endpoint(monitor)["relabelings"]
    assert rule["targetLabel"] == "job"
    return rule["replacement"]


def is_selected(monitor: Json, labels: Json) -> bool:
    assert monitor["spec"]["selector"].keys() == {"matchLabels"}
    return monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_jobs_have_the_names_that_the_rules_ask_for() -> None:
    jobs = {job(each) for each in MONITORS}
    assert jobs == {"fairqueue-proxy", "fairqueue-operator", "fairqueue-injector"}
    rules = (MANIFESTS / "components" / "monitoring" / "rules.yaml").read_text()
    asked_for = set(re.findall(r'job="([^"]+)"', rules))
    assert asked_for
    assert asked_for <= jobs


def test_an_injected_pod_is_selected_wherever_it_is_and_its_proxy_has_the_port() -> None:
    monitor = one("PodMonitor", "fairqueue-proxies", COMPONENT)
    pod = injected(made_pod({"args": ["--model", "a/b"]}), made_policy())
    assert monitor["spec"]["namespaceSelector"] == {"any": True}
    assert is_selected(monitor, pod["metadata"]["labels"])
    containers = [*pod["spec"]["containers"], *pod["spec"]["initContainers"]]
    ports = {(port.get("name"), port["containerPort"]) for each in containers for port in each.get("ports", [])}
    assert [number for name, number in ports if name == endpoint(monitor)["port"]] == [ADMIN_PORT]


@pytest.mark.parametrize("name", ["fairqueue-operator", "fairqueue-injector"])
def test_its_pods_are_selected_have_the_port_and_may_be_reached_there(name: str) -> None:
    monitor = one("PodMonitor", name, COMPONENT)
    deployment = one("Deployment", name, objects_of("base"))
    assert monitor["metadata"]["namespace"] == deployment["metadata"]["namespace"]
    template = deployment["spec"]["template"]
    assert is_selected(monitor, template["metadata"]["labels"])
    (container,) = template["spec"]["containers"]
    port = endpoint(monitor)["port"]
    assert port in {each["name"] for each in container["ports"]}
    policy = one("NetworkPolicy", name, objects_of("components/network-policies"))
    assert [rule for rule in policy["spec"]["ingress"] if "from" not in rule and port in _ports(rule)]


def _ports(rule: Json) -> set[str]:
    return {each["port"] for each in rule["ports"]}


@pytest.mark.parametrize("monitor", MONITORS, ids=job)
def test_each_is_scraped_as_often_as_rates_of_five_minutes_need(monitor: Json) -> None:
    assert (endpoint(monitor)["path"], endpoint(monitor)["interval"]) == ("/metrics", "15s")


@pytest.fixture
def schemas(monkeypatch: pytest.MonkeyPatch) -> dict[str, Json]:
    """Of the version that the end-to-end tests run, by kind, if it was fetched before."""
    monkeypatch.setenv("GOPROXY", "off")
    try:
        folder = definitions()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("prometheus-operator's module was not fetched: `make e2e` does that")
    found = (objects(folder / f"monitoring.coreos.com_{kind.lower()}s.yaml") for kind in KINDS)
    return {
        definition["spec"]["names"]["kind"]: version["schema"]["openAPIV3Schema"]
        for (definition,) in found
        for version in definition["spec"]["versions"]
        if f"{definition['spec']['group']}/{version['name']}" == GROUP
    }


def test_the_real_definitions_take_each_object_and_know_each_field(schemas: dict[str, Json]) -> None:
    theirs = [each for each in COMPONENT if each["apiVersion"] == GROUP]
    assert {each["kind"] for each in theirs} == KINDS
    for each in theirs:
        jsonschema_rs.validator_for(strict(schemas[each["kind"]])).validate(each)


def test_a_field_that_they_do_not_know_would_be_seen(schemas: dict[str, Json]) -> None:
    monitor = {**MONITORS[0], "spec": {**MONITORS[0]["spec"], "podMetricsEndpoint": []}}
    assert not jsonschema_rs.validator_for(strict(schemas["PodMonitor"])).is_valid(monitor)
