"""Where a test happens."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from suite.clients import Clients
from suite.kubectl import Json, Kubectl, until
from suite.objects import document_secret, keys, policy


@dataclass(frozen=True, slots=True)
class Place:
    """A namespace under Pod Security `restricted`, with a client in it."""

    kubectl: Kubectl
    clients: Clients

    def url(self, service: str = "engine", port: int = 80) -> str:
        """Of a Service that leads somewhere, by its address: clusters without DNS are clusters, too.

        kube-proxy hears of pods that are Ready a little later than we do.
        """
        found = f"http://{self.kubectl.get('service', service)['spec']['clusterIP']}:{port}"
        until(lambda: self.clients.ask(f"{found}/health").status, f"the Service {service} leads somewhere")
        return found

    def share(self, tenants: dict[str, int], **spec: Any) -> Json:
        """Applies a policy for the engine's pods with its keys, and writes its document as the operator would."""
        made = policy(tenants, **spec)
        made["metadata"]["namespace"] = self.kubectl.namespace
        self.kubectl.apply(made, keys(list(tenants)), document_secret(made))
        return made

    def nudge(self, pods: Sequence[Json]) -> None:
        """Makes kubelet look at once, as the operator does."""
        names = [it["metadata"]["name"] for it in pods]
        self.kubectl.run("annotate", "pods", *names, "--overwrite", f"fairqueue.dev/config-nudge={time.time_ns()}")
