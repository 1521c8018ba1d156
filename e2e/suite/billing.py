"""A usage log and the engines' own account of the same requests, on one volume, and what one may lack of the other."""

import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from one_node.layout import Layout
from suite.kubectl import Json, Kubectl
from suite.objects import engine_pod
from suite.place import Place
from suite.pods import PROXY, moment

VOLUME = "usage"
FOLDER = "/truth"
"""Where the engine has the volume; the proxy has it at /usage."""
# Between two flushes, and what a machine takes that has more to do.
INTERVAL_SECONDS, SLACK_SECONDS = 1.0, 2.0
_POD = re.compile(r"usage-(.+)-\d{8}T\d{6}\.\d{6}Z\.jsonl|truth-(.+)\.log")


@dataclass(frozen=True, slots=True)
class Kill:
    """A container of a pod was killed between these two moments of the machine's clock, by which the engines write.
    No container: all of them, at some time after the first; `ended` says nothing then."""

    pod: str
    container: str | None
    began: float
    ended: float

    def is_near(self, at: float) -> bool:
        """What happened then may have been changed by it."""
        return self.began - INTERVAL_SECONDS - SLACK_SECONDS <= at <= self.ended + SLACK_SECONDS


@dataclass(slots=True)
class Tally:
    """Tokens by tenant and kind; tenants are the first parts of requests' ids."""

    tokens: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, request_id: str, counts: Mapping[str, int]) -> None:
        self.tokens.setdefault(request_id.partition(".")[0], Counter()).update(counts)

    def of(self, tenant: str) -> Counter[str]:
        return self.tokens.get(tenant, Counter())


@dataclass(frozen=True, slots=True)
class Entry:
    """A request that cost something: in which pod, when it ended by the machine's clock, for how much, and whether it
    was answered in full."""

    pod: str
    at: float
    counts: Mapping[str, int]
    is_whole: bool


@contextmanager
def usage_volume(system: Kubectl, place: Place) -> Iterator[Path]:
    """A folder of the node's that is bound to the namespace's claim `usage`, as this machine sees it."""
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


def billed_engine(*, slots: int, volume: Json | None = None) -> Json:
    """An engine whose proxy writes a usage log, and which writes down itself what it does, by its pod's name; on the
    claim's volume, or on another."""
    container = {
        "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "volumeMounts": [{"name": VOLUME, "mountPath": FOLDER}],
    }
    return engine_pod(
        options=["--slots", str(slots), "--log", f"{FOLDER}/{truth_file('$(POD)')}"],
        annotations={"fairqueue.dev/usage-volume": VOLUME},
        container=container,
        volumes=[{"name": VOLUME, **(volume or {"persistentVolumeClaim": {"claimName": VOLUME}})}],
    )


def truth_file(pod: str) -> str:
    """What the engines of a pod write, one after the other."""
    return f"truth-{pod}.log"


def check_bills(folder: Path, kills: Iterable[Kill]) -> tuple[Tally, Tally]:
    """What was billed, and what engines did and nobody was billed for.

    Line by line: it has what the engine says of a request that it finished, unless the engine was killed meanwhile. A
    line is missing only where a proxy was killed within one interval after the request's end, or while it was under
    way.
    """
    lines, truths = read_lines(folder), read_truths(folder)
    by_pod: dict[str, list[Kill]] = {}
    for kill in _dated(kills, [*lines.values(), *truths.values()]):
        by_pod.setdefault(kill.pod, []).append(kill)

    def explained(entry: Entry, container: str) -> bool:
        return any(it.container in (None, container) and it.is_near(entry.at) for it in by_pod.get(entry.pod, []))

    billed, lost = Tally(), Tally()
    missing = 0
    for name, line in lines.items():
        billed.add(name, line.counts)
        truth = truths.get(name)
        is_true = truth is not None and truth.is_whole and (line.pod, line.counts) == (truth.pod, truth.counts)
        assert is_true or explained(line, "engine"), (name, line, truth)
    for name, truth in truths.items():
        if name not in lines:
            assert explained(truth, PROXY), (name, truth)
            lost.add(name, truth.counts)
            missing += 1
    print(f"{len(lines)} lines, {missing} lost by {sum(map(len, by_pod.values()))} kills: billed {billed}, lost {lost}")
    return billed, lost


def _dated(kills: Iterable[Kill], entries: Iterable[Entry]) -> Iterator[Kill]:
    """Nobody knows when a pod ended that was deleted at once: when the last is heard of it. Until then it flushed."""
    last: dict[str, float] = {}
    for entry in entries:
        last[entry.pod] = max(entry.at, last.get(entry.pod, 0.0))
    for kill in kills:
        at = last.get(kill.pod, kill.began)
        yield kill if kill.container is not None else Kill(kill.pod, None, at, at)


def read_lines(folder: Path) -> dict[str, Entry]:
    """Of the usage log, by request, each of which has one; a line that is cut is none."""
    # Lines have the time of day.
    start = time.time() - time.monotonic()
    found: dict[str, Entry] = {}
    for path in folder.glob("usage-*.jsonl*"):
        for text in path.read_text().splitlines(keepends=True):
            if text.endswith("\n"):
                line: Json = json.loads(text)
                name = line["request_id"]
                assert name not in found
                assert line["tenant"] == name.partition(".")[0]
                counts = {
                    "input": line["input_tokens"] + line["cached_input_tokens"],
                    "output": line["output_tokens"],
                }
                at = moment(line["time"]).timestamp() - start
                found[name] = Entry(_pod_of(path), at, counts, line["outcome"] == "completed")
    return found


def read_truths(folder: Path) -> dict[str, Entry]:
    """How each request ended that an engine worked on, by the engines' own account."""
    found: dict[str, Entry] = {}
    for path in folder.glob("truth-*.log"):
        for text in path.read_text().splitlines():
            try:
                event: Json = json.loads(text)
            except json.JSONDecodeError:
                # An engine was killed in the middle of the line.
                continue
            if event["event"] == "ended" and (event["prompt_tokens"] or event["made_tokens"]):
                name = event["request_id"]
                assert name not in found
                counts = {"input": event["prompt_tokens"], "output": event["made_tokens"]}
                found[name] = Entry(_pod_of(path), event["at"], counts, event["outcome"] == "done")
    return found


def _pod_of(path: Path) -> str:
    match = _POD.match(path.name)
    assert match is not None, path
    return match[1] or match[2]
