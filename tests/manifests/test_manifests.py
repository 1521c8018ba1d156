"""The manifests: Kubernetes takes them, they fit one another, and nobody gets more rights than the page says."""

import argparse
import tomllib
from typing import Any

import kubernetes_validate
import pytest

from fairqueue_operator import operator_options
from fairqueue_operator.injection.names import ADMIN_PORT
from manifests.reading import MANIFESTS, ROOT, Json, files_of, objects, objects_of, one

OLDEST, NEWEST = "1.32", "1.36"
FOLDERS = [
    "base",
    "components/cert-manager",
    "components/monitoring",
    "components/network-policies",
    "overlays/default",
    "overlays/cert-manager",
    "overlays/monitoring",
    "overlays/tenant-namespace",
]
# Of others' APIs: no schema of Kubernetes has them.
FOREIGN = {"Issuer", "Certificate", "PodMonitor", "PrometheusRule"}
COMPONENTS = ["components/cert-manager", "components/monitoring", "components/network-policies"]
ALL = objects_of("base", *COMPONENTS, "overlays/tenant-namespace")
BASE = objects_of("base")
OPERATOR = "fairqueue-operator"


def named(made: Any) -> str:
    return f"{made['kind']} {made['metadata']['name']}"


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("made", [each for each in ALL if each["kind"] not in FOREIGN], ids=named)
def test_kubernetes_takes_each_object(made: Json, version: str) -> None:
    kubernetes_validate.validate(made, version, strict=True)


def test_each_file_belongs_to_a_kustomization() -> None:
    reached = {file for folder in FOLDERS for file in files_of(MANIFESTS / folder)}
    known = {"kustomization.yaml", "images.yaml"}
    written = {file for folder in ("base", "components", "overlays") for file in (MANIFESTS / folder).rglob("*.yaml")}
    assert {file for file in written if file.name not in known} == {
        file for file in reached if MANIFESTS in file.parents
    }


def test_the_overlays_are_the_whole_base() -> None:
    base = set(files_of(MANIFESTS / "base"))
    for overlay in ("default", "cert-manager", "monitoring"):
        assert base <= set(files_of(MANIFESTS / "overlays" / overlay))
    assert {folder.name for folder in (MANIFESTS / "base").iterdir() if folder.is_dir()} == {"injector", "operator"}


@pytest.mark.parametrize("name", ["fairqueue-injector", OPERATOR])
def test_its_pods_are_as_the_page_says(name: str) -> None:
    spec = one("Deployment", name, BASE)["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert spec["replicas"] == 2
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    assert pod["serviceAccountName"] == name
    assert one("ServiceAccount", name, BASE)["automountServiceAccountToken"] is False
    assert container["resources"] == {
        "requests": {"cpu": "50m", "memory": "128Mi"},
        "limits": {"memory": "512Mi"},
    }
    # What Pod Security `restricted` asks for, which the namespace enforces; and a root that can't be written to.
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsGroup": 65532,
        "runAsUser": 65532,
    }


def test_the_operator_is_started_as_its_options_say() -> None:
    (container,) = one("Deployment", OPERATOR, BASE)["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["operator"]
    assert {each["name"] for each in container["env"]} == {"POD_NAME", "POD_NAMESPACE"}
    options = _default_options()
    (port,) = container["ports"]
    assert (port["name"], port["containerPort"]) == ("health", options.health.port)
    paths = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {name: (get["path"], get["port"]) for name, get in paths.items()} == {
        "startupProbe": ("/livez", "health"),
        "livenessProbe": ("/livez", "health"),
        "readinessProbe": ("/readyz", "health"),
    }


def _default_options() -> operator_options.OperatorOptions:
    parser = argparse.ArgumentParser()
    operator_options.add_arguments(parser)
    return operator_options.read_options(parser.parse_args([]), {"POD_NAMESPACE": "fairqueue-system", "POD_NAME": "a"})


def test_the_operator_has_these_rights_in_the_cluster_and_no_others() -> None:
    assert _rights(one("ClusterRole", OPERATOR, BASE)) == {
        ("fairqueue.dev", "fairnesspolicies", "list watch"),
        ("fairqueue.dev", "fairnesspolicies/status", "patch"),
        ("", "pods", "list patch watch"),
        ("events.k8s.io", "events", "create"),
    }


def test_in_its_own_namespace_it_has_its_lease_and_nothing_else() -> None:
    role = one("Role", OPERATOR, BASE)
    assert role["metadata"]["namespace"] == "fairqueue-system"
    assert _rights(role) == {
        ("coordination.k8s.io", "leases", "get update"),
        ("coordination.k8s.io", "leases", "create"),
    }
    names = {verb: rule.get("resourceNames") for rule in role["rules"] for verb in rule["verbs"]}
    assert names == {"get": [_default_options().lease], "update": [_default_options().lease], "create": None}


def test_a_namespaces_grant_is_of_its_secrets_alone_and_to_the_operator_alone() -> None:
    role, binding = objects_of("overlays/tenant-namespace")
    # `kubectl apply -n` says which namespace.
    assert "namespace" not in role["metadata"] | binding["metadata"]
    (kustomization,) = objects(MANIFESTS / "overlays" / "tenant-namespace" / "kustomization.yaml")
    assert "namespace" not in kustomization
    assert _rights(role) == {("", "secrets", "create get list patch watch")}
    assert binding["roleRef"] == _reference(role)
    assert binding["subjects"] == [_account(OPERATOR)]


def test_each_binding_is_of_a_role_that_is_there_to_an_account_that_is_there() -> None:
    for binding in (each for each in BASE if each["kind"] in ("ClusterRoleBinding", "RoleBinding")):
        role = one(binding["roleRef"]["kind"], binding["roleRef"]["name"], BASE)
        assert binding["roleRef"] == _reference(role)
        assert role["metadata"].get("namespace") == binding["metadata"].get("namespace")
        (subject,) = binding["subjects"]
        assert subject == _account(one("ServiceAccount", subject["name"], BASE)["metadata"]["name"])


def test_no_rule_is_of_everything() -> None:
    for role in (each for each in ALL if each["kind"] in ("ClusterRole", "Role")):
        for rule in role["rules"]:
            assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]], named(role)


def test_network_policies_are_for_pods_that_are_there_and_let_them_reach_what_they_must() -> None:
    labels = {
        each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"]
        for each in BASE
        if each["kind"] == "Deployment"
    }
    policies = objects_of("components/network-policies")
    assert {each["metadata"]["name"] for each in policies} == set(labels)
    for policy in policies:
        spec = policy["spec"]
        assert spec["podSelector"]["matchLabels"].items() <= labels[policy["metadata"]["name"]].items()
        (egress,) = (port for rule in spec["egress"] for port in rule["ports"])
        assert egress["port"] <= 443 <= ADMIN_PORT <= egress["endPort"]
        (container,) = one("Deployment", policy["metadata"]["name"], BASE)["spec"]["template"]["spec"]["containers"]
        ports = {port["port"] for rule in spec["ingress"] for port in rule["ports"]}
        assert ports == {port["name"] for port in container["ports"]}


def test_what_the_manifests_call_a_version_is_one() -> None:
    images = {
        container["image"]
        for each in BASE
        if each["kind"] == "Deployment"
        for container in each["spec"]["template"]["spec"]["containers"]
    }
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert images == {f"fairqueue/operator:{version}"}


def _rights(role: Json) -> set[tuple[str, str, str]]:
    return {
        (group, resource, " ".join(sorted(rule["verbs"])))
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def _reference(role: Json) -> Json:
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": role["kind"], "name": role["metadata"]["name"]}


def _account(name: str) -> Json:
    return {"kind": "ServiceAccount", "name": name, "namespace": "fairqueue-system"}
