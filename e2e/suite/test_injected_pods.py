"""Pods that ask for the proxy get it, whatever comes first; clients, Services and probes stay as they are."""

import pytest

from suite.objects import deployment, engine_pod, service
from suite.place import Place
from suite.pods import is_injected, wait_ready

TENANTS = {"alice": 1, "bob": 3}
REPLICAS = 3


@pytest.mark.parametrize("first", ["policy", "deployment"])
def test_all_replicas_are_ready_within_a_minute_whatever_is_applied_first(place: Place, first: str) -> None:
    place.kubectl.apply(service(), service(name="by-number", target=80))
    if first == "policy":
        place.share(TENANTS)
    place.kubectl.apply(deployment(engine_pod(), replicas=REPLICAS))
    if first == "deployment":
        place.share(TENANTS)
    pods = wait_ready(place.kubectl, REPLICAS)
    assert all(is_injected(pod) for pod in pods)
    for name in ("engine", "by-number"):
        answer = place.clients.generate(place.url(name), "alice")
        assert (answer.status, answer.headers["x-fairqueue-tenant"]) == (200, "alice")
    for pod in pods:
        engine = place.clients.ask(f"http://{pod['status']['podIP']}:10080/health")
        assert engine.error == "ClientConnectorError", engine
