"""The usage log on a volume: what is billed is what the engines did, though proxies are killed and pods deleted."""

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from one_node.layout import Layout
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
# Between two flushes, and what a machine takes that has more to do.
INTERVAL_SECONDS, SLACK_SECONDS = 1.0, 2.0
VOLUME = "usage"
KINDS = {"input": "prompt_tokens", "output": "made_tokens"}


@dataclass(frozen=True, slots=True)
class Kill:
    """A proxy was killed between these two moments of the machine's clock, by which the engines write, too."""

    began: float
    ended: float

    def may_have_cost(self, ended_at: float) -> bool:
        """The line of a request that had ended then."""
        return self.began - INTERVAL_SECONDS - SLACK_SECONDS <= ended_at <= self.ended + SLACK_SECONDS


@dataclass(slots=True)
class Tally:
    """Tokens by tenant and kind."""

    tokens: dict[str, Counter[str]] = field(default_factory=lambda: {it: Counter() for it in TENANTS})

    def add(self, request_id: str, **counts: int) -> None:
        self.tokens[request_id.partition(".")[0]].update(counts)


def test_what_is_billed_is_what_the_engines_did_though_proxies_are_killed_and_pods_deleted(
    system: Kubectl, place: Place
) -> None:
    only_on_our_own_node()
    place.share(TENANTS)
    with volume(system, place) as folder:
        place.kubectl.apply(service(), deployment(billed_engine(), replicas=REPLICAS))
        pods = wait_ready(place.kubectl, REPLICAS)
        for found in pods:
            check_mounts(found)
        kills = []
        with patient_clients(place.kubectl, [place.url()], STREAMS, tokens=30) as clients:
            for _ in range(ROUNDS):
                time.sleep(LOAD_SECONDS)
                first, second = wait_ready(place.kubectl, REPLICAS)[:REPLICAS]
                kills.append(kill_proxy(place, first))
                place.kubectl.run("delete", "pod", second["metadata"]["name"], "--wait=false")
                until(lambda: replaced(place, second), "another pod is Ready", seconds=120)  # noqa: B023
            time.sleep(LOAD_SECONDS)
        assert clients.lost == []
        place.kubectl.run("scale", "deployment/engine", "--replicas=0")
        until(lambda: not place.kubectl.all("pods", "app=engine"), "all pods are gone", seconds=120)
        check(folder, kills)


def test_a_pod_whose_annotation_names_no_volume_of_its_own_is_denied(place: Place) -> None:
    place.share(TENANTS)
    template = engine_pod(annotations={"fairqueue.dev/usage-volume": VOLUME})
    said = place.kubectl.refusal(pod(template, name="llm"))
    assert "bad_annotation: An annotation that says how the proxy is to run cannot be used: correct it." in said
    assert f"fairqueue.dev/usage-volume: the pod has no volume '{VOLUME}'" in said


@contextmanager
def volume(system: Kubectl, place: Place) -> Iterator[Path]:
    """A folder of the node's that is bound to the namespace's claim, as this machine sees it."""
    name = f"usage-{place.kubectl.namespace}"
    # The node's own /var/lib.
    folder = Layout.of_this_machine().state / "var" / "lib" / name
    folder.mkdir()
    folder.chmod(0o777)
    size = {"storage": "1Gi"}
    modes = ["ReadWriteOnce"]
    volume: Json = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": size,
            "accessModes": modes,
            "storageClassName": "",
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": f"/var/lib/{name}", "type": "Directory"},
        },
    }
    claim: Json = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": VOLUME},
        "spec": {
            "accessModes": modes,
            "storageClassName": "",
            "volumeName": name,
            "resources": {"requests": size},
        },
    }
    try:
        system.create(volume)
        place.kubectl.create(claim)
        yield folder
    finally:
        system.delete("persistentvolume", name, wait=False)
        shutil.rmtree(folder, ignore_errors=True)


def billed_engine() -> Json:
    """An engine whose proxy writes a usage log, and which writes down itself what it does, by its pod's name."""
    container = {
        "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "volumeMounts": [{"name": VOLUME, "mountPath": "/truth"}],
    }
    return engine_pod(
        options=["--slots", "8", "--log", "/truth/truth-$(POD).log"],
        annotations={"fairqueue.dev/usage-volume": VOLUME},
        container=container,
        volumes=[{"name": VOLUME, "persistentVolumeClaim": {"claimName": VOLUME}}],
    )


def check_mounts(pod: Json) -> None:
    """The volume is the proxy's /usage, and what the engine mounts is as it was."""
    proxy, engine = pod["spec"]["initContainers"][0], pod["spec"]["containers"][0]
    places = [
        [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == VOLUME]
        for container in (proxy, engine)
    ]
    assert places == [["/usage"], ["/truth"]]
    assert proxy["args"][proxy["args"].index("--usage-log") + 1] == "/usage"


def kill_proxy(place: Place, pod: Json) -> Kill:
    """Kills the pod's proxy under load; returns when the pod is Ready again."""
    name, before = pod["metadata"]["name"], restarts(pod, PROXY)
    began = time.monotonic()
    kill_container(pod, PROXY)
    kill = Kill(began, time.monotonic())
    until(lambda: restarts(place.kubectl.get("pod", name), PROXY) > before, "the proxy is started again")
    until(lambda: is_ready(place.kubectl.get("pod", name)), "the pod is Ready again")
    return kill


def replaced(place: Place, pod: Json) -> bool:
    names = [it["metadata"]["name"] for it in wait_ready(place.kubectl, REPLICAS)]
    return pod["metadata"]["name"] not in names


def check(folder: Path, kills: list[Kill]) -> None:
    """Line by line, and in sums: only what had ended within one interval before a kill may be missing."""
    lines, truths = usage_lines(folder), truths_of(folder)
    assert lines.keys() <= truths.keys()
    billed, done, lost = Tally(), Tally(), Tally()
    missing = 0
    for name, truth in truths.items():
        counts = {kind: truth[field] for kind, field in KINDS.items()}
        if (line := lines.get(name)) is not None:
            told = {"input": line["input_tokens"] + line["cached_input_tokens"], "output": line["output_tokens"]}
            assert truth["outcome"] == "done", (line, truth)
            assert told == counts, (line, truth)
            assert line["tenant"] == name.partition(".")[0]
            billed.add(name, **told)
        elif any(counts.values()):
            assert any(kill.may_have_cost(truth["at"]) for kill in kills), truth
            lost.add(name, **counts)
            missing += 1
        done.add(name, **counts)
    print(f"{len(lines)} lines, {missing} lost by {len(kills)} kills: billed {billed}, of {done}")
    for tenant in TENANTS:
        assert billed.tokens[tenant] + lost.tokens[tenant] == done.tokens[tenant]
        assert +billed.tokens[tenant]
    # The files of those that were killed are as they were then; all others are finished.
    left = [path.name for path in folder.glob("usage-*.jsonl")]
    assert len(left) <= len(kills)
    assert len(list(folder.glob("usage-*.jsonl.*"))) >= REPLICAS


def usage_lines(folder: Path) -> dict[str, Json]:
    """By request, each of which has one; a line that is cut is none."""
    texts = [path.read_text() for path in folder.glob("usage-*.jsonl*")]
    whole = [line for text in texts for line in text.splitlines(keepends=True) if line.endswith("\n")]
    lines: list[Json] = [json.loads(line) for line in whole]
    found = {line["request_id"]: line for line in lines}
    assert len(found) == len(lines)
    return found


def truths_of(folder: Path) -> dict[str, Json]:
    """How each request ended that an engine worked on, by the engines' own account."""
    found: dict[str, Json] = {}
    for path in folder.glob("truth-*.log"):
        for line in path.read_text().splitlines():
            event = json.loads(line)
            if event["event"] == "ended" and (event["prompt_tokens"] or event["made_tokens"]):
                assert event["request_id"] not in found
                found[event["request_id"]] = event
    return found
