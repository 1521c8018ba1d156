"""What is asked of pods: which are Ready, what their proxies say."""

import json
import re
from dataclasses import dataclass
from datetime import datetime

from suite.clients import Clients
from suite.kubectl import Json, Kubectl, until
from suite.objects import ENGINE

PROXY = "fairqueue-proxy"
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)


def is_ready(pod: Json) -> bool:
    """As kubectl says it, and not on its way out."""
    conditions = pod.get("status", {}).get("conditions", [])
    return "deletionTimestamp" not in pod["metadata"] and any(
        it["type"] == "Ready" and it["status"] == "True" for it in conditions
    )


def ready_pods(kubectl: Kubectl, app: str = ENGINE) -> list[Json]:
    """Pods of an app that are Ready."""
    return [it for it in kubectl.all("pods", f"app={app}") if is_ready(it)]


def wait_ready(kubectl: Kubectl, count: int = 1, app: str = ENGINE, *, seconds: float = 60.0) -> list[Json]:
    """So many Ready pods."""
    return until(
        lambda: found if len(found := ready_pods(kubectl, app)) >= count else None,
        f"{count} Ready pods of {app}",
        seconds=seconds,
    )


def is_injected(pod: Json) -> bool:
    """The proxy is its first init container, and stays."""
    first = (pod["spec"].get("initContainers") or [{}])[0]
    return (first.get("name"), first.get("restartPolicy")) == (PROXY, "Always")


def restarts(pod: Json, container: str) -> int:
    """How often a container was started again."""
    return int(_status(pod, container)["restartCount"])


def last_end(pod: Json, container: str) -> Json:
    """How a container that was started again had ended."""
    ended: Json = _status(pod, container)["lastState"]["terminated"]
    return ended


def moment(text: str) -> datetime:
    """As Kubernetes writes it."""
    return datetime.fromisoformat(text)


def ready_since(pod: Json) -> datetime:
    """When it was Ready, the last time that it came to be."""
    condition = next(it for it in pod["status"]["conditions"] if it["type"] == "Ready" and it["status"] == "True")
    return moment(condition["lastTransitionTime"])


def started_at(pod: Json, container: str) -> datetime:
    """When a container that runs began to."""
    return moment(_status(pod, container)["state"]["running"]["startedAt"])


def engine_port(pod: Json) -> int:
    """Where the injector has put the engine."""
    return int(json.loads(pod["metadata"]["annotations"]["fairqueue.dev/status"])["enginePort"])


def _status(pod: Json, container: str) -> Json:
    status = pod["status"]
    found = [*status.get("containerStatuses", []), *status.get("initContainerStatuses", [])]
    return next(it for it in found if it["name"] == container)


def until_running(kubectl: Kubectl, app: str = ENGINE, container: str = "engine") -> Json:
    """The app's pod, once that container of it runs."""

    def running() -> Json | None:
        for pod in kubectl.all("pods", f"app={app}"):
            statuses = pod["status"].get("containerStatuses", [])
            if any(it["name"] == container and "running" in it["state"] for it in statuses):
                return pod
        return None

    return until(running, f"{container} of {app} runs", every=0.1)


def metrics(clients: Clients, url: str) -> dict[tuple[str, str], float]:
    """What Prometheus reads there: samples by name and labels."""
    return {(name, labels): float(value) for name, labels, value in _SAMPLE.findall(clients.ask(url).text)}


@dataclass(frozen=True, slots=True)
class ProxyView:
    """What a pod's proxy tells the pod network."""

    clients: Clients
    address: str

    def config(self) -> Json:
        """/-/config."""
        found: Json = self.clients.ask(f"http://{self.address}:9820/-/config").json
        return found

    def metrics(self) -> dict[tuple[str, str], float]:
        """Samples by name and labels."""
        return metrics(self.clients, f"http://{self.address}:9820/metrics")

    def service(self) -> dict[str, float]:
        """Cost units by tenant of the policy."""
        return {
            json.loads(labels.partition("=")[2]): value
            for (name, labels), value in self.metrics().items()
            if name == "fairqueue_service_total" and labels != 'tenant="other"'
        }


def view(clients: Clients, pod: Json) -> ProxyView:
    """Of a pod's proxy."""
    return ProxyView(clients, pod["status"]["podIP"])
