"""A cluster with fairqueue in it, and a namespace of its own for each test."""

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from suite.clients import CLIENT, Clients, client_objects
from suite.kubectl import Kubectl, until
from suite.place import Place
from suite.pods import is_ready

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = "fairqueue-system"
OVERLAY = os.environ.get("E2E_OVERLAY", "default")


@pytest.fixture(scope="session")
def system() -> Kubectl:
    """fairqueue, installed as its README says."""
    if not os.environ.get("KUBECONFIG"):
        pytest.fail(
            "KUBECONFIG is not set: `make e2e` brings a cluster of its own, docs/e2e.md says how to use another"
        )
    kubectl = Kubectl(SYSTEM)
    Kubectl().run("apply", "--server-side", "-k", str(ROOT / "manifests" / "overlays" / OVERLAY))
    kubectl.run("rollout", "status", "deployment/fairqueue-injector", "--timeout=90s")
    until(lambda: _admits(kubectl), "an admission by the injector", seconds=30)
    return kubectl


def _admits(kubectl: Kubectl) -> bool:
    """The API server reaches the webhook and trusts it: a pod that asks for the proxy is told of its missing policy."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "nobody", "labels": {"fairqueue.dev/inject": "true"}},
        "spec": {"containers": [{"name": "c", "image": "none"}]},
    }
    done = subprocess.run(
        ["kubectl", "-n", "default", "create", "--dry-run=server", "-f", "-"],
        input=json.dumps(pod),
        capture_output=True,
        text=True,
        check=False,
    )
    return "FairnessPolicy" in done.stderr


@pytest.fixture
def place(system: Kubectl) -> Iterator[Place]:
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    system.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    kubectl = Kubectl(name)
    until(lambda: kubectl.all("serviceaccounts"), "a ServiceAccount")
    kubectl.create(*client_objects())
    until(lambda: is_ready(kubectl.get("pod", CLIENT)), "the client's pod")
    yield Place(kubectl, Clients(kubectl))
    if not os.environ.get("E2E_KEEP"):
        kubectl.run("delete", "pods", "--all", "--grace-period=0", "--force", "--wait=false")
        system.delete("namespace", name, wait=False)
