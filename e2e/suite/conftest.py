"""A cluster with fairqueue in it, and a namespace of its own for each test."""

import os
import uuid
from collections.abc import Callable, Iterator

import pytest

from suite.clients import CLIENT, Clients, client_objects
from suite.installing import install
from suite.kubectl import Kubectl, until
from suite.place import Place
from suite.pods import is_ready


@pytest.fixture(scope="session")
def system() -> Kubectl:
    """fairqueue, installed as its README says."""
    if not os.environ.get("KUBECONFIG"):
        pytest.fail(
            "KUBECONFIG is not set: `make e2e` brings a cluster of its own, docs/e2e.md says how to use another"
        )
    return install()


@pytest.fixture
def new_namespace(system: Kubectl) -> Iterator[Callable[[], Kubectl]]:
    """Makes namespaces under Pod Security `restricted`, which are gone after the test."""
    made: list[Kubectl] = []

    def make() -> Kubectl:
        name = f"e2e-{uuid.uuid4().hex[:8]}"
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        system.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        kubectl = Kubectl(name)
        made.append(kubectl)
        until(lambda: kubectl.all("serviceaccounts"), "a ServiceAccount")
        return kubectl

    yield make
    if not os.environ.get("E2E_KEEP"):
        for kubectl in made:
            kubectl.run("delete", "pods", "--all", "--grace-period=0", "--force", "--wait=false")
            system.delete("namespace", str(kubectl.namespace), wait=False)


@pytest.fixture
def place(new_namespace: Callable[[], Kubectl]) -> Place:
    kubectl = new_namespace()
    kubectl.create(*client_objects())
    until(lambda: is_ready(kubectl.get("pod", CLIENT)), "the client's pod")
    return Place(kubectl, Clients(kubectl))
