"""Pods that go away lose no request of a client that tries again once; engines that hang do not hold them up."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from suite.kubectl import Json, KubectlError, until
from suite.objects import deployment, engine_pod, service
from suite.place import Place
from suite.pods import PROXY, moment, restarts, started_at, wait_ready

REPLICAS = 2
STREAMS = {"alice": 25, "bob": 25}
DRAIN_SECONDS = 10
# What the injector makes of that for the pod; and some for kubelet to kill what is left, and for kubectl to hear of it.
GRACE_SECONDS = DRAIN_SECONDS + 30
MOST_SECONDS = GRACE_SECONDS + 4
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
    place.share({"alice": 1}, drain={"timeout": f"{DRAIN_SECONDS}s"})
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
    assert DRAIN_SECONDS <= took <= MOST_SECONDS
    assert len(outcome.failed) >= 2


@pytest.mark.parametrize(
    ("hears", "least_seconds", "most_seconds"), [(True, 0, 20), (False, GRACE_SECONDS - 1, MOST_SECONDS)]
)
def test_an_engine_that_hangs_holds_its_pod_up_for_no_longer_than_drain_and_grace(
    place: Place, hears: bool, least_seconds: float, most_seconds: float
) -> None:
    place.share({"alice": 1}, drain={"timeout": f"{DRAIN_SECONDS}s"})
    container = {} if hears else {"env": [{"name": "IGNORE_SIGTERM", "value": "1"}]}
    place.kubectl.apply(service(), deployment(engine_pod(container=container)))
    pod = wait_ready(place.kubectl)[0]["metadata"]["name"]
    with (
        place.clients.load(place.url(), {"alice": 2}, tokens=1000, tries=1, patience_seconds=0) as outcome,
        following(place, pod) as lines,
    ):
        time.sleep(3)
        place.kubectl.exec(pod, "python", "-c", HANG, container="engine")
        began = time.monotonic()
        delete(place, pod)
        took = time.monotonic() - began
    drained = moment(said(lines, "drain is over")["time"]) - moment(said(lines, "drain begins")["time"])
    print(f"gone after {took:.1f} s; the drain took {drained.total_seconds():.1f} s; {outcome.failed}")
    assert least_seconds <= took <= most_seconds
    assert drained.total_seconds() <= DRAIN_SECONDS + 1


@contextmanager
def following(place: Place, pod: str) -> Iterator[list[Json]]:
    """The lines of a pod's proxy, which are there when the block has ended and the pod is gone."""
    lines: list[Json] = []
    command = place.kubectl.command("logs", "--follow", pod, "-c", PROXY)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield lines
        except BaseException:
            process.kill()
            raise
        printed, _ = process.communicate(timeout=60)
    lines += [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


def said(lines: list[Json], message: str) -> Json:
    """The line whose message begins so."""
    return next(it for it in lines if it["message"].startswith(message))


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
    assert place.clients.generate(f"http://{found['status']['podIP']}:80", "alice").status == 200
    # kube-proxy may still have to hear that the pod was not Ready, and then that it is again.
    until(lambda: place.clients.generate(place.url(), "alice").status == 200, "the Service leads to it again")
