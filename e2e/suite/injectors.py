"""The injector's replicas: which serve, and what they count."""

import json

from suite.clients import Clients
from suite.kubectl import Json, Kubectl
from suite.pods import is_injected, is_ready, metrics

INJECTOR = "fairqueue-injector"
# Why a pod that asks for the proxy may have none.
EXCUSES = {"fairqueue.dev/on-missing-policy", "fairqueue.dev/status"}


def replicas(system: Kubectl) -> list[Json]:
    """Pods of injectors that are Ready."""
    return [it for it in system.all("pods", f"app.kubernetes.io/name={INJECTOR}") if is_ready(it)]


def scraped(system: Kubectl, clients: Clients) -> list[dict[tuple[str, str], float]]:
    """Samples by name and labels, of each replica."""
    return [metrics(clients, f"http://{it['status']['podIP']}:8080/metrics") for it in replicas(system)]


def decisions(system: Kubectl, clients: Clients) -> dict[str, float]:
    """How often all replicas together have decided so."""
    total: dict[str, float] = {}
    for samples in scraped(system, clients):
        for (name, labels), value in samples.items():
            if name == "fairqueue_injector_decisions_total":
                decision = json.loads(labels.partition("=")[2])
                total[decision] = total.get(decision, 0) + value
    return total


def bare_pods_counted(system: Kubectl, clients: Clients) -> set[float]:
    """How many each replica has found at its last look, once a minute."""
    return {samples["fairqueue_injector_bare_pods", ""] for samples in scraped(system, clients)}


def bare_pods_there(system: Kubectl) -> set[str]:
    """Pods of all namespaces that ask for the proxy and have none."""
    return {
        pod["metadata"]["name"]
        for pod in system.all("pods", "fairqueue.dev/inject=true", "--all-namespaces")
        if not is_injected(pod)
        and not EXCUSES & pod["metadata"].get("annotations", {}).keys()
        and "deletionTimestamp" not in pod["metadata"]
    }
