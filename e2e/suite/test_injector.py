"""The injector stops, is killed, gets other certificates: what pods that ask for the proxy see of it, and others."""

import signal
import time
from collections.abc import Callable, Iterator

import pytest

from suite.creating import admissions
from suite.injectors import INJECTOR, decisions, replicas
from suite.kubectl import Json, Kubectl, KubectlError, until
from suite.memory import run_out
from suite.objects import deployment, engine_pod, pod, policy, service
from suite.place import Place
from suite.pods import last_end, restarts, wait_ready

AUTHORITY, LEAF = "fairqueue-injector-ca", "fairqueue-injector-tls"
AGAIN_SECONDS = 90.0


def one_replica(system: Kubectl) -> str:
    """The name of one of them."""
    return str(replicas(system)[0]["metadata"]["name"])


@pytest.fixture(autouse=True)
def _two_replicas(system: Kubectl) -> Iterator[None]:
    yield
    system.run("scale", f"deployment/{INJECTOR}", "--replicas=2")
    until(lambda: len(replicas(system)) == 2, "two injectors")


def test_without_an_injector_pods_that_ask_for_it_wait_and_say_why_and_others_start(
    system: Kubectl, place: Place
) -> None:
    place.share({"alice": 1})
    system.run("scale", f"deployment/{INJECTOR}", "--replicas=0")
    until(lambda: not system.all("pods", f"app.kubernetes.io/name={INJECTOR}"), "no injector")
    place.kubectl.apply(service(), deployment(engine_pod()))
    other = engine_pod(app="other", inject=False)
    other["spec"]["containers"][0]["args"] += ["--port", "8080"]
    del other["spec"]["containers"][0]["startupProbe"]
    for probe in ("readinessProbe", "livenessProbe"):
        other["spec"]["containers"][0][probe]["httpGet"]["port"] = 8080
    place.kubectl.apply(deployment(other, name="other"))
    wait_ready(place.kubectl, app="other")
    said = until(lambda: [it["message"] for it in place.kubectl.events("FailedCreate")], "why the pod is not there")
    assert any("inject.fairqueue.dev" in message for message in said)
    assert not place.kubectl.all("pods", "app=engine")
    system.run("scale", f"deployment/{INJECTOR}", "--replicas=2")
    # The controller's next try may be as long off as the outage was.
    wait_ready(place.kubectl, seconds=180)


def test_one_replica_that_stops_in_order_fails_no_admission(system: Kubectl, place: Place) -> None:
    place.share({"alice": 1})
    with admissions(place.kubectl, pod(engine_pod(), name="tried")) as found:
        time.sleep(2)
        system.run("delete", "pod", one_replica(system))
        until(lambda: len(replicas(system)) == 2, "two injectors")
        over_at = time.monotonic()
        until(lambda: found.admitted and found.admitted[-1] > over_at, "one more admission")
    assert found.refused == []
    assert found.admitted[-1] > over_at


def delete_at_once(system: Kubectl, replica: str) -> None:
    system.run("delete", "pod", replica, "--grace-period=0", "--force")


def run_out_of_memory(system: Kubectl, replica: str) -> None:
    """Its process is gone, and its pod and endpoint are still there."""
    run_out(system, replica, "injector")
    until(lambda: restarts(system.get("pod", replica), "injector"), "it was killed", every=0.1)
    assert last_end(system.get("pod", replica), "injector")["exitCode"] == 128 + signal.SIGKILL


@pytest.mark.parametrize("kill", [delete_at_once, run_out_of_memory])
def test_with_one_replica_killed_all_pods_are_created_within_ten_seconds(
    system: Kubectl, place: Place, kill: Callable[[Kubectl, str], None]
) -> None:
    place.share({"alice": 1})
    count = 6
    kill(system, one_replica(system))
    place.kubectl.apply(deployment(engine_pod(container={"resources": {}}), replicas=count))
    began = time.monotonic()
    until(lambda: len(place.kubectl.all("pods", "app=engine")) == count, "all pods are created", seconds=30, every=0.1)
    took = time.monotonic() - began
    print(f"{count} pods created {took:.1f} s after their Deployment")
    assert took <= 10.0


def test_a_new_leaf_fails_no_admission(system: Kubectl, place: Place) -> None:
    place.share({"alice": 1})
    before = system.get("secret", LEAF)["data"]["tls.crt"]
    with admissions(place.kubectl, pod(engine_pod(), name="tried")) as found:
        time.sleep(2)
        system.delete("secret", LEAF)
        until(lambda: system.get("secret", LEAF)["data"]["tls.crt"] != before, "a new leaf", seconds=AGAIN_SECONDS)
        # Both replicas have it by then.
        time.sleep(20)
        over_at = time.monotonic()
        until(lambda: found.admitted and found.admitted[-1] > over_at, "one more admission")
    assert found.refused == []


def test_with_the_authority_deleted_admissions_work_again_within_ninety_seconds(system: Kubectl, place: Place) -> None:
    place.share({"alice": 1})
    before = system.get("secret", AUTHORITY)["data"]
    with admissions(place.kubectl, pod(engine_pod(), name="tried")) as found:
        time.sleep(2)
        deleted_at = time.monotonic()
        system.delete("secret", AUTHORITY)
        until(lambda: system.get("secret", AUTHORITY)["data"] != before, "a new authority", seconds=AGAIN_SECONDS)
        made_at = time.monotonic()
        time.sleep(max(AGAIN_SECONDS - (made_at - deleted_at), 0))
        over_at = time.monotonic()
        until(lambda: found.admitted and found.admitted[-1] > over_at, "an admission")
    refused = [round(at - deleted_at, 1) for at, _ in found.refused]
    print(f"a new authority after {made_at - deleted_at:.1f} s; refused at {refused}")
    assert all(at < AGAIN_SECONDS for at in refused)


def test_a_dry_run_leaves_no_event_and_a_denial_one(place: Place) -> None:
    place.kubectl.apply(deployment(engine_pod(app="other", inject=False), name="other", replicas=0))
    owner = until(lambda: place.kubectl.all("replicasets"), "a ReplicaSet")[0]["metadata"]
    asked = pod(engine_pod(), name="tried")
    asked["metadata"]["ownerReferences"] = [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner["name"], "uid": owner["uid"], "controller": True}
    ]
    with admissions(place.kubectl, asked) as found:
        until(lambda: len(found.refused) > 3, "refusals", every=0.1)
    assert "No FairnessPolicy" in found.refused[0][1]
    assert "No FairnessPolicy" in place.kubectl.refusal(asked)
    until(lambda: place.kubectl.events("MissingPolicy"), "the Event of the one that was no dry run")
    assert len(place.kubectl.events("MissingPolicy")) == 1


def test_each_decision_is_counted_under_its_name(system: Kubectl, place: Place) -> None:
    place.share({"alice": 1})
    place.kubectl.apply(policy({"bob": 1}, name="off", app="unfair", injection={"mode": "Disabled"}))
    allow = {"fairqueue.dev/on-missing-policy": "Allow"}
    templates = {
        "injected": engine_pod(),
        "disabled": engine_pod(app="unfair"),
        "missing_policy": engine_pod(app="unknown"),
        "missing_policy_allowed": engine_pod(app="unknown", annotations=allow),
        "host_network": engine_pod(hostNetwork=True),
        "shell_command": engine_pod(container={"command": ["sh", "-c", "text-generation-launcher --port 80; true"]}),
    }
    before = decisions(system, place.clients)
    for often, (decision, template) in enumerate(templates.items(), start=1):
        for _ in range(often):
            told = refusal_or_nothing(place, pod(template, name="tried"))
            assert decision in told or decision in ("injected", "disabled", "missing_policy_allowed"), told
    after = decisions(system, place.clients)
    changed = {decision: after[decision] - before[decision] for decision in after if after[decision] > before[decision]}
    assert changed == {decision: often for often, decision in enumerate(templates, start=1)}


def refusal_or_nothing(place: Place, made: Json) -> str:
    """What a dry run is refused with."""
    try:
        place.kubectl.dry_run(made)
    except KubectlError as error:
        return str(error)
    return ""
