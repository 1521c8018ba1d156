"""What the manifests promise beside the injector: the component to opt in to, and Pod Security for its own pods."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from suite.installing import NOBODY, OVERLAYS, install
from suite.kubectl import Kubectl, KubectlError

COMPONENTS = OVERLAYS.parent / "components"


@pytest.fixture
def with_network_policies(system: Kubectl, tmp_path: Path) -> Iterator[Path]:
    """An overlay of one's own, as the page on Kubernetes shows it."""
    overlay = os.path.relpath(OVERLAYS / "default", tmp_path)
    component = os.path.relpath(COMPONENTS / "network-policies", tmp_path)
    (tmp_path / "kustomization.yaml").write_text(f"resources: [{overlay}]\ncomponents: [{component}]\n")
    yield tmp_path
    system.delete("networkpolicies", "--all")


def test_network_policies_are_a_component_that_a_cluster_takes(system: Kubectl, with_network_policies: Path) -> None:
    assert "kind: NetworkPolicy" not in Kubectl().run("kustomize", str(OVERLAYS / "default"))
    assert system.all("networkpolicies") == []
    system.run("apply", "--server-side", "-k", str(with_network_policies))
    templates = [it["spec"]["template"]["metadata"]["labels"] for it in system.all("deployments")]
    for found in (policies := system.all("networkpolicies")):
        chosen = found["spec"]["podSelector"]["matchLabels"]
        assert any(chosen.items() <= labels.items() for labels in templates), found["metadata"]["name"]
    assert "fairqueue-injector" in {it["metadata"]["name"] for it in policies}
    # Where the network enforces them, admissions still come through; `install` waits for one.
    install()


def test_the_injectors_namespace_is_under_pod_security_restricted(system: Kubectl) -> None:
    labels = system.get("namespace", str(system.namespace))["metadata"]["labels"]
    assert [labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "warn", "audit")] == ["restricted"] * 3
    careless = {**NOBODY, "metadata": {"name": "careless"}}
    with pytest.raises(KubectlError, match='violates PodSecurity "restricted'):
        system.dry_run(careless)
