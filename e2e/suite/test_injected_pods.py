"""Pods that ask for the proxy get it, whatever comes first; clients, Services and probes stay as they are."""

import json

import pytest

from suite.injectors import bare_pods_counted, bare_pods_there
from suite.installing import install
from suite.kubectl import Kubectl, until
from suite.objects import deployment, engine_pod, pod, service
from suite.place import Place
from suite.pods import PROXY, engine_port, is_injected, wait_ready

TENANTS = {"alice": 1, "bob": 3}
REPLICAS = 3
ASK = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:{port}/health').status)"


def injected_by_dry_run(place: Place) -> bool:
    made = place.kubectl.run(
        "create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(pod(engine_pod(), name="tried"))
    )
    return is_injected(json.loads(made))


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
        assert (answer.status, answer.tenant) == (200, "alice")
    for found in pods:
        port = engine_port(found)
        inside = place.kubectl.exec(found["metadata"]["name"], "python", "-c", ASK.format(port=port), container=PROXY)
        assert inside.strip() == "200"
        assert place.clients.ask(f"http://{found['status']['podIP']}:{port}/health").error == "ClientConnectorError"


def all_count(system: Kubectl, place: Place) -> bool:
    """Every injector's metric says how many bare pods there are."""
    return bare_pods_counted(system, place.clients) == {len(bare_pods_there(system))}


def test_a_pod_older_than_the_webhook_stays_bare_is_counted_and_told_of_with_the_command_that_mends_it(
    system: Kubectl, place: Place
) -> None:
    place.share(TENANTS)
    system.delete("mutatingwebhookconfiguration", "fairqueue-injector")
    system.delete("validatingadmissionpolicybinding", "fairqueue-injected")
    try:
        until(lambda: not injected_by_dry_run(place), "the API server has heard that there is no webhook")
        place.kubectl.apply(deployment(engine_pod(low_ports=True)))
        bare = wait_ready(place.kubectl)[0]
    finally:
        install()
    assert not is_injected(bare)
    found = until(lambda: place.kubectl.events("NotInjected"), "an Event on the pod", seconds=150, every=1)
    assert found[0]["involvedObject"]["name"] == bare["metadata"]["name"]
    command = found[0]["message"].partition("To replace it: ")[2]
    assert command == f"kubectl -n {place.kubectl.namespace} rollout restart deployment/engine"
    assert bare["metadata"]["name"] in bare_pods_there(system)
    until(lambda: all_count(system, place), "injectors that count it", seconds=90, every=1)
    # As it was, until that is done.
    assert not is_injected(place.kubectl.get("pod", bare["metadata"]["name"]))
    place.kubectl.run(*command.split()[3:])
    until(lambda: all(map(is_injected, wait_ready(place.kubectl))), "the pod is replaced")
    until(lambda: bare["metadata"]["name"] not in bare_pods_there(system), "the bare pod is gone")
    until(lambda: all_count(system, place), "injectors that count it no more", seconds=90, every=1)
