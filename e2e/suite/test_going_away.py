"""Pods that go away lose no request of a client that tries again once; engines that hang do not hold them up."""

import json
import time

import pytest

from suite.kubectl import KubectlError, until
from suite.objects import deployment, engine_pod, service
from suite.place import Place
from suite.pods import moment, restarts, started_at, wait_ready

REPLICAS = 2
STREAMS = {"alice": 25, "bob": 25}
HANG = """
import os, pathlib, signal
for line in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    if b"engine-sim" in line.read_bytes().split(b"\\0"):
        os.kill(int(line.parent.name), signal.SIGSTOP)
"""


def restart(place: Place, _pod: str) -> None:
    place.kubectl.run("rollout", "restart", "deployment/engine")
    place.kubectl.run("rollout", "status", "deployment/engine", "--timeout=180s", timeout_seconds=200)


def delete(place: Place, pod: str) -> None:
    place.kubectl.run("delete", "pod", pod, timeout_seconds=200)


def evict(place: Place, pod: str) -> None:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    namespace = place.kubectl.namespace
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    place.kubectl.run("create", "--raw", path, "-f", "-", stdin=json.dumps(body))
    until(lambda: is_gone(place, pod), f"{pod} is gone", seconds=180)


def is_gone(place: Place, pod: str) -> bool:
    try:
        place.kubectl.get("pod", pod)
    except KubectlError as error:
        return "NotFound" in str(error)
    return False


@pytest.mark.parametrize("go", [restart, delete, evict])
def test_no_request_fails_while_pods_go(place: Place, go: object) -> None:
    assert callable(go)
    place.share({"alice": 1, "bob": 1}, drain={"timeout": "60s"})
    place.kubectl.apply(service(), deployment(engine_pod(options=["--slots", "16"]), replicas=REPLICAS))
    pods = wait_ready(place.kubectl, REPLICAS)
    with place.clients.load(place.url(), STREAMS, tokens=60) as outcome:
        time.sleep(5)
        began = time.monotonic()
        go(place, pods[0]["metadata"]["name"])
        took = time.monotonic() - began
        wait_ready(place.kubectl, REPLICAS)
        time.sleep(3)
    print(f"{sum(outcome.done.values())} done, {outcome.tried_again} tried again, took {took:.1f} s")
    assert outcome.failed == []
    assert sum(outcome.done.values()) > 100


def test_streams_that_never_end_hold_their_pod_up_for_the_drains_time_only(place: Place) -> None:
    place.share({"alice": 1}, drain={"timeout": "10s"})
    place.kubectl.apply(service(), deployment(engine_pod()))
    pod = wait_ready(place.kubectl)[0]["metadata"]["name"]
    # Each of its steps takes 100 s; its health is as ever.
    body = {"inputs": "[[slow=100000]] Why?", "parameters": {"max_new_tokens": 5}}
    with place.clients.load(place.url(), {"alice": 2}, tokens=5, tries=1, body=body, patience_seconds=0) as outcome:
        time.sleep(3)
        began = time.monotonic()
        delete(place, pod)
        took = time.monotonic() - began
    print(f"gone after {took:.1f} s; {outcome.failed}")
    # The engine ends what it runs before it goes, and is killed at the end of the grace period.
    assert 10 <= took <= 10 + 30 + 2
    assert len(outcome.failed) >= 2


def test_an_engine_killed_by_its_liveness_probe_is_back_within_five_seconds(place: Place) -> None:
    place.share({"alice": 1})
    probe = {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 1, "failureThreshold": 3}
    template = engine_pod(container={"livenessProbe": {**probe, "timeoutSeconds": 1}})
    place.kubectl.apply(service(), deployment(template))
    name = wait_ready(place.kubectl)[0]["metadata"]["name"]
    assert place.clients.generate(place.url(), "alice").status == 200
    place.kubectl.exec(name, "python", "-c", HANG, container="engine")
    until(lambda: restarts(place.kubectl.get("pod", name), "engine") == 1, "the engine is started again")
    wait_ready(place.kubectl, seconds=60)
    found = place.kubectl.get("pod", name)
    killed = next(it for it in place.kubectl.events("Killing") if it["involvedObject"]["name"] == name)
    # Both in whole seconds.
    took = (started_at(found, "engine") - moment(killed["lastTimestamp"])).total_seconds()
    print(f"started again {took:.0f} s after kubelet went to kill it")
    assert took <= 5.0
    assert restarts(place.kubectl.get("pod", name), "fairqueue-proxy") == 0
    assert place.clients.generate(place.url(), "alice").status == 200
