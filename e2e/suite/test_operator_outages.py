"""Injector, operator or API server are down: pods serve on, and afterwards all is true again without a hand."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from suite.injectors import INJECTOR
from suite.injectors import replicas as injectors
from suite.kubectl import Json, Kubectl, until
from suite.memory import run_out
from suite.node_parts import only_on_our_own_node, paused, without
from suite.objects import deployment, engine_pod, service
from suite.operators import (
    LEASE_SECONDS,
    OPERATOR,
    SELECTOR,
    followed_lease,
    leader,
    overlaps,
    replicas,
    scale,
    scraped,
)
from suite.patient import Patience, patient_clients
from suite.place import Place
from suite.pods import is_ready, ready_pods, restarts, wait_ready
from suite.policies import DOCUMENT_SECRET, reweighed, share, until_ready, until_served, usual_revision

FAIRQUEUE = str(Path(sys.executable).with_name("fairqueue"))
TENANTS = {"alice": 1, "bob": 1}
STREAMS = {"alice": 10, "bob": 10}
REPLICAS = 2
INJECTOR_DOWN_SECONDS, API_SERVER_DOWN_SECONDS = 180.0, 60.0
READY_SECONDS = 30.0
# A kubelet that lost the API server asks for a Secret again after up to a minute, and sees it then at the next nudge,
# which is up to half a minute later.
KUBELET_SEES_SECONDS = 60.0 + 30.0 + 30.0
# The Lease runs out, another replica sees that and lists all there is.
TAKEN_OVER_SECONDS = LEASE_SECONDS + 10.0


@pytest.fixture(autouse=True)
def _as_it_was(system: Kubectl) -> Iterator[None]:
    yield
    system.run("scale", f"deployment/{INJECTOR}", "--replicas=2")
    until(lambda: len(injectors(system)) == 2, "two injectors")
    scale(system, 2)


def advised(kubectl: Kubectl) -> list[str]:
    """The commands that `fairqueue check` prints below what fails in the namespace."""
    command = [FAIRQUEUE, "check", "--json", "-n", str(kubectl.namespace)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    failed = [it for group in json.loads(done.stdout)["groups"] for it in group["checks"] if it["result"] == "failed"]
    print("check:", [it["text"] for it in failed])
    return [mend for it in failed for mend in it["mend"] if f"-n {kubectl.namespace}" in mend]


@pytest.mark.long
def test_the_injector_is_down_for_three_minutes_and_pods_are_wanted(system: Kubectl, place: Place) -> None:
    share(place.kubectl, TENANTS)
    system.run("scale", f"deployment/{INJECTOR}", "--replicas=0")
    until(lambda: not system.all("pods", f"app.kubernetes.io/name={INJECTOR}"), "no injector")
    place.kubectl.apply(service(), deployment(engine_pod(), replicas=REPLICAS))
    until(lambda: place.kubectl.events("FailedCreate"), "an Event that says why there are no pods")
    time.sleep(INJECTOR_DOWN_SECONDS)
    assert not place.kubectl.all("pods", "app=engine")
    system.run("scale", f"deployment/{INJECTOR}", "--replicas=2")
    until(lambda: injectors(system), "an injector")
    commands = advised(place.kubectl)
    assert commands
    began = time.monotonic()
    for command in commands:
        print(command)
        subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL)
    until_served(place, pods=REPLICAS)
    took = time.monotonic() - began
    print(f"Ready and serving {took:.1f} s after the command")
    assert took <= READY_SECONDS
    assert len(ready_pods(place.kubectl)) == REPLICAS


def run_out_of_memory(system: Kubectl, pod: Json) -> None:
    """Its process is killed, and the kubelet starts another in the same pod."""
    run_out(system, pod["metadata"]["name"], "operator")
    until(lambda: restarts(system.get("pod", pod["metadata"]["name"]), "operator"), "it was killed", every=0.1)


def delete_at_once(system: Kubectl, pod: Json) -> None:
    system.run("delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force")


def delete_in_order(system: Kubectl, pod: Json) -> None:
    system.run("delete", "pod", pod["metadata"]["name"])


@pytest.mark.parametrize("end", [run_out_of_memory, delete_at_once, delete_in_order])
def test_the_operator_that_works_is_ended_and_another_takes_over(
    system: Kubectl, place: Place, end: Callable[[Kubectl, Json], None]
) -> None:
    made, _ = running(place)
    first = leader(system)
    with followed_lease(system) as terms, loaded(place) as seen:
        time.sleep(2)
        end(system, first)
        began = time.monotonic()
        took = until_true_again(place, made, {"bob": 3}, began)
    print(f"{end.__name__}: true again after {took:.1f} s; {seen}")
    assert took <= TAKEN_OVER_SECONDS
    never_noticed(seen)
    assert overlaps(terms) == []
    assert len({it.holder for it in terms if it.holder}) >= 2


def test_of_several_operators_one_works_at_any_time(system: Kubectl, place: Place) -> None:
    made, _ = running(place)
    scale(system, 1)
    with followed_lease(system) as terms, loaded(place) as seen:
        for count in (3, 2, 3):
            scale(system, count)
            working = [it["metadata"]["name"] for it in replicas(system) if is_leading(place, it)]
            assert len(working) <= 1, working
            delete_at_once(system, leader(system))
        until_true_again(place, made, {"bob": 2}, time.monotonic())
        until(lambda: sum(is_leading(place, it) for it in replicas(system)) == 1, "one that works")
    print(f"{len(terms)} writes of the Lease by {len({it.holder for it in terms if it.holder})} holders; {seen}")
    never_noticed(seen)
    assert overlaps(terms) == []


def test_an_operator_that_stood_still_writes_nothing_when_it_goes_on(system: Kubectl, place: Place) -> None:
    """Another works by then, and the one that stood still knows an old policy."""
    only_on_our_own_node()
    made, _ = running(place)
    first = leader(system)
    with followed_lease(system) as terms:
        with paused(first, "operator"):
            changed = reweighed(made, {"bob": 4})
            place.kubectl.apply(changed)
            began = time.monotonic()
            until_ready(place.kubectl, pods=REPLICAS, revision=usual_revision(changed), seconds=90)
            print(f"in force after {time.monotonic() - began:.1f} s, by another")
            changed = reweighed(made, {"bob": 5})
            place.kubectl.apply(changed)
            until_ready(place.kubectl, pods=REPLICAS, revision=usual_revision(changed))
            before = versions(place)
        until(lambda: restarts(system.get("pod", first["metadata"]["name"]), "operator"), "it ends when it goes on")
        time.sleep(5)
    assert versions(place) == before
    assert overlaps(terms) == []
    assert leader(system)["metadata"]["name"] != first["metadata"]["name"]


def versions(place: Place) -> list[str]:
    """Of policy and document."""
    written = (place.kubectl.get("fpol", "shared"), place.kubectl.get("secret", DOCUMENT_SECRET))
    return [it["metadata"]["resourceVersion"] for it in written]


def test_without_any_operator_pods_serve_and_what_was_changed_is_done_later(system: Kubectl, place: Place) -> None:
    made, pods = running(place)
    with loaded(place) as seen:
        system.run("scale", f"deployment/{OPERATOR}", "--replicas=0")
        until(lambda: not system.all("pods", SELECTOR), "no operator")
        place.kubectl.apply(reweighed(made, {"bob": 3}))
        # A pod that is made meanwhile has the document that is stored.
        place.kubectl.run("scale", "deployment/engine", f"--replicas={REPLICAS + 1}")
        wait_ready(place.kubectl, REPLICAS + 1)
        time.sleep(5)
        stale = place.kubectl.get("fpol", "shared")
        assert stale["status"]["observedGeneration"] < stale["metadata"]["generation"]
        began = time.monotonic()
        system.run("scale", f"deployment/{OPERATOR}", "--replicas=2")
        revision = usual_revision(reweighed(made, {"bob": 3}))
        until_ready(place.kubectl, pods=REPLICAS + 1, revision=revision)
        took = time.monotonic() - began
    print(f"true again {took:.1f} s after the operator was wanted again; {seen}")
    assert took <= READY_SECONDS
    never_noticed(seen)
    assert {it["metadata"]["name"] for it in pods} <= {it["metadata"]["name"] for it in ready_pods(place.kubectl)}


@pytest.mark.long
def test_the_api_server_is_down_for_a_minute(system: Kubectl, place: Place) -> None:
    only_on_our_own_node()
    made, pods = running(place)
    before = leader(system)
    addresses = [f"http://{it['status']['podIP']}" for it in pods]
    # By the pods' addresses: what the Service does is kube-proxy's.
    with loaded(place, addresses) as seen:
        time.sleep(2)
        with ThreadPoolExecutor(1) as beside:
            with without("kube-apiserver"):
                time.sleep(1)
                # It is applied by somebody who tries until it is.
                applied = beside.submit(lambda: until(lambda: try_to_apply(place, made), "applied", seconds=150))
                time.sleep(API_SERVER_DOWN_SECONDS - 1)
            began = time.monotonic()
            applied.result()
        revision = usual_revision(reweighed(made, {"bob": 3}))
        until_ready(place.kubectl, pods=REPLICAS, revision=revision, seconds=KUBELET_SEES_SECONDS)
        took = time.monotonic() - began
    print(f"true again {took:.1f} s after the API server; {seen}")
    never_noticed(seen)
    found = {it["metadata"]["uid"]: it for it in wait_ready(place.kubectl, REPLICAS)}
    assert found.keys() == {it["metadata"]["uid"] for it in pods}
    assert all(restarts(it, "engine") == restarts(it, "fairqueue-proxy") == 0 for it in found.values())
    until(lambda: [is_ready(it) for it in system.all("pods", SELECTOR)] == [True] * 2, "two operators")
    print(f"{before['metadata']['name']} worked before, {leader(system)['metadata']['name']} now")


def running(place: Place) -> tuple[Json, list[Json]]:
    """A policy that is Ready, and its pods."""
    made = share(place.kubectl, TENANTS)
    place.kubectl.apply(service(), deployment(engine_pod(options=["--slots", "16"]), replicas=REPLICAS))
    until_served(place, pods=REPLICAS)
    return made, wait_ready(place.kubectl, REPLICAS)


def loaded(place: Place, urls: list[str] | None = None) -> AbstractContextManager[Patience]:
    """Both tenants have work all the while."""
    return patient_clients(place.kubectl, urls or [place.url()], STREAMS, tokens=40)


def never_noticed(seen: Patience) -> None:
    """Not one request had to be sent twice, and none waited."""
    assert (seen.tried_again, seen.lost) == ({}, [])
    assert min(seen.done.values()) > 10


def until_true_again(place: Place, made: Json, weights: dict[str, int], began: float) -> float:
    """Changes weights; how long it took from `began` until that is in force everywhere, and the status says so."""
    changed = reweighed(made, weights)
    place.kubectl.apply(changed)
    until_ready(place.kubectl, pods=REPLICAS, revision=usual_revision(changed), seconds=90)
    return time.monotonic() - began


def try_to_apply(place: Place, made: Json) -> bool:
    place.kubectl.apply(reweighed(made, {"bob": 3}))
    return True


def is_leading(place: Place, pod: Json) -> bool:
    """By its own metric."""
    return scraped(place.clients, pod)["fairqueue_operator_leading", ""] == 1
