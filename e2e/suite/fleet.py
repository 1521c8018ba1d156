"""Many policies and pods: namespaces that are granted, with keys, policies, and pods on fake nodes."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import yaml

from suite.kubectl import Json, Kubectl, until
from suite.objects import engine_pod, keys, pod, policy
from suite.policies import GRANT

TENANTS = {"chat": 3, "batch": 1}
NAMESPACE_LABEL = "fairqueue.dev/e2e=scale"
# What two cores can make at once, beside the API server's work and the injector's.
_AT_ONCE = 3


@dataclass(frozen=True, slots=True)
class Fleet:
    """Each namespace has so many policies, each of which selects so many pods."""

    namespaces: int = 20
    policies: int = 10
    pods: int = 10

    @property
    def names(self) -> list[str]:
        """Of the namespaces."""
        return [f"scale-{number:02}" for number in range(self.namespaces)]

    @property
    def nodes(self) -> list[str]:
        """One for each namespace's pods: about as many as a kubelet takes."""
        return [f"fake-{number:02}" for number in range(self.namespaces)]

    @property
    def policy_names(self) -> list[str]:
        """In each namespace the same."""
        return [f"llm-{number:02}" for number in range(self.policies)]

    @property
    def pod_count(self) -> int:
        """In all."""
        return self.namespaces * self.policies * self.pods

    def settings(self) -> list[Json]:
        """What is in a namespace before its pods."""
        grant = yaml.safe_load_all(Kubectl().run("kustomize", str(GRANT)))
        return [*grant, keys(list(TENANTS)), *(policy(TENANTS, name=it, app=it) for it in self.policy_names)]

    def pods_on(self, node: str) -> list[Json]:
        """Those of one namespace."""
        return [
            pod(engine_pod(app=name, nodeName=node), name=f"{name}-{number:02}")
            for name in self.policy_names
            for number in range(self.pods)
        ]


@contextmanager
def deployed(fleet: Fleet) -> Iterator[None]:
    """All of it is there, and its pods run, for as long as the block. Its nodes are there already."""
    cluster = Kubectl()
    cluster.create(*(_namespace(name) for name in fleet.names))
    try:
        _fill(fleet)
        print(f"waiting for {fleet.pod_count} pods to run", flush=True)
        until(lambda: len(_running(cluster)) == fleet.pod_count, "all pods run", seconds=180, every=3)
        yield
    finally:
        _take_away(fleet)


def _fill(fleet: Fleet) -> None:
    settings = fleet.settings()
    with ThreadPoolExecutor(_AT_ONCE) as makers:
        list(makers.map(lambda name: _create(name, settings), fleet.names))
        last, pods = Kubectl(fleet.names[-1]), [fleet.pods_on(node) for node in fleet.nodes]
        until(lambda: _admits(last, pods[-1][-1]), "the injector knows the policy made last")
        for done, _ in enumerate(makers.map(_create, fleet.names, pods), 1):
            print(f"pods made in {done} of {fleet.namespaces} namespaces", flush=True)


def _take_away(fleet: Fleet) -> None:
    cluster = Kubectl()
    with ThreadPoolExecutor(_AT_ONCE) as takers:
        away = ("delete", "pods", "--all", "--grace-period=0", "--force", "--wait=false")
        list(takers.map(lambda name: Kubectl(name).run(*away), fleet.names))
    cluster.delete("namespace", *fleet.names, wait=False)
    until(lambda: not cluster.all("namespaces", NAMESPACE_LABEL), "the namespaces are gone", seconds=300, every=3)


def _namespace(name: str) -> Json:
    key, _, value = NAMESPACE_LABEL.partition("=")
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {key: value}}}


def _create(namespace: str, objects: Sequence[Json]) -> None:
    kubectl = Kubectl(namespace)
    until(lambda: kubectl.all("serviceaccounts"), f"a ServiceAccount in {namespace}")
    kubectl.create(*objects)


def _admits(kubectl: Kubectl, pod: Json) -> bool:
    kubectl.dry_run(pod)
    return True


def _running(cluster: Kubectl) -> list[str]:
    chosen = ("--all-namespaces", "-l", "fairqueue.dev/inject=true", "--field-selector", "status.phase=Running")
    return cluster.run("get", "pods", *chosen, "-o", "name").splitlines()
