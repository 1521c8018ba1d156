"""The usage log on a volume: what is billed is what the engines did, though proxies are killed and pods deleted."""

import time

from suite.billing import FOLDER, VOLUME, Kill, billed_engine, check_bills, usage_volume
from suite.kubectl import Json, Kubectl, until
from suite.node_parts import kill_container, only_on_our_own_node
from suite.objects import deployment, engine_pod, pod, service
from suite.patient import patient_clients
from suite.place import Place
from suite.pods import PROXY, is_ready, restarts, wait_ready

TENANTS = {"alice": 1, "bob": 1}
STREAMS = {"alice": 4, "bob": 4}
REPLICAS = 2
ROUNDS = 2
LOAD_SECONDS = 3.0


def test_what_is_billed_is_what_the_engines_did_though_proxies_are_killed_and_pods_deleted(
    system: Kubectl, place: Place
) -> None:
    only_on_our_own_node()
    place.share(TENANTS)
    with usage_volume(system, place) as folder:
        place.kubectl.apply(service(), deployment(billed_engine(slots=8), replicas=REPLICAS))
        pods = wait_ready(place.kubectl, REPLICAS)
        for found in pods:
            check_mounts(found)
        kills = []
        with patient_clients(place.kubectl, [place.url()], STREAMS, tokens=30) as clients:
            for _ in range(ROUNDS):
                time.sleep(LOAD_SECONDS)
                # A proxy that is killed twice is started again after ten seconds and more.
                first, second = sorted(wait_ready(place.kubectl, REPLICAS), key=lambda it: restarts(it, PROXY))
                kills.append(kill_proxy(place, first))
                place.kubectl.run("delete", "pod", second["metadata"]["name"], "--wait=false")
                until(lambda: replaced(place, second), "another pod is Ready", seconds=120)  # noqa: B023
            time.sleep(LOAD_SECONDS)
        assert clients.lost == []
        place.kubectl.run("scale", "deployment/engine", "--replicas=0")
        until(lambda: not place.kubectl.all("pods", "app=engine"), "all pods are gone", seconds=120)
        billed, _ = check_bills(folder, kills)
        assert all(+billed.of(tenant) for tenant in TENANTS)
        # The files of those that were killed are as they were then; all others are finished.
        assert len(list(folder.glob("usage-*.jsonl"))) <= len(kills)
        assert len(list(folder.glob("usage-*.jsonl.*"))) >= REPLICAS


def test_a_pod_whose_annotation_names_no_volume_of_its_own_is_denied(place: Place) -> None:
    place.share(TENANTS)
    template = engine_pod(annotations={"fairqueue.dev/usage-volume": VOLUME})
    said = place.kubectl.refusal(pod(template, name="llm"))
    assert "bad_annotation: An annotation that says how the proxy is to run cannot be used: correct it." in said
    assert f"fairqueue.dev/usage-volume: the pod has no volume '{VOLUME}'" in said


def check_mounts(pod: Json) -> None:
    """The volume is the proxy's /usage, and what the engine mounts is as it was."""
    proxy, engine = pod["spec"]["initContainers"][0], pod["spec"]["containers"][0]
    places = [
        [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == VOLUME]
        for container in (proxy, engine)
    ]
    assert places == [["/usage"], [FOLDER]]
    assert proxy["args"][proxy["args"].index("--usage-log") + 1] == "/usage"


def kill_proxy(place: Place, pod: Json) -> Kill:
    """Kills the pod's proxy under load; returns when the pod is Ready again."""
    name, before = pod["metadata"]["name"], restarts(pod, PROXY)
    began = time.monotonic()
    kill_container(pod, PROXY)
    kill = Kill(name, PROXY, began, time.monotonic())
    until(lambda: restarts(place.kubectl.get("pod", name), PROXY) > before, "the proxy is started again")
    until(lambda: is_ready(place.kubectl.get("pod", name)), "the pod is Ready again")
    return kill


def replaced(place: Place, pod: Json) -> bool:
    names = [it["metadata"]["name"] for it in wait_ready(place.kubectl, REPLICAS)]
    return pod["metadata"]["name"] not in names
