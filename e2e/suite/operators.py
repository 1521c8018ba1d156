"""The operator's replicas: which of them works, by its Lease, and what it counts."""

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from suite.clients import Clients
from suite.kubectl import Json, Kubectl, until
from suite.pods import is_ready, metrics, moment

OPERATOR = "fairqueue-operator"
SELECTOR = f"app.kubernetes.io/name={OPERATOR}"
ACCOUNT = f"system:serviceaccount:fairqueue-system:{OPERATOR}"
LEASE_SECONDS = 15.0

Samples = dict[tuple[str, str], float]


def replicas(system: Kubectl) -> list[Json]:
    """Those that are Ready."""
    return [it for it in system.all("pods", SELECTOR) if is_ready(it)]


def scale(system: Kubectl, count: int) -> None:
    """So many replicas, once they are there and no others."""
    system.run("scale", f"deployment/{OPERATOR}", f"--replicas={count}")
    until(lambda: [is_ready(it) for it in system.all("pods", SELECTOR)] == [True] * count, f"{count} operators")


def leader(system: Kubectl) -> Json:
    """The pod that works, once one does that is there."""

    def found() -> Json | None:
        holder = system.get("lease", OPERATOR)["spec"].get("holderIdentity", "")
        names = {it["metadata"]["name"]: it for it in replicas(system)}
        return names.get(holder.partition("_")[0])

    return until(found, "an operator that works")


def scraped(clients: Clients, pod: Json) -> Samples:
    """All samples of a replica."""
    return metrics(clients, f"http://{pod['status']['podIP']}:8080/metrics")


def writes(samples: Samples) -> dict[str, float]:
    """How often it has written what."""
    return {
        json.loads(labels.partition("=")[2]): value
        for (name, labels), value in samples.items()
        if name == "fairqueue_operator_writes_total"
    }


def orphaned_pods(system: Kubectl, clients: Clients) -> float:
    """Of all namespaces, by the metric."""
    return scraped(clients, leader(system))["fairqueue_operator_orphaned_pods", ""]


@dataclass(frozen=True, slots=True)
class Term:
    """What the Lease said after one write of it; holder empty: it was released."""

    holder: str
    renewed: datetime | None


UNKNOWN = Term("", None)


@contextmanager
def followed_lease(system: Kubectl) -> Iterator[list[Term]]:
    """All that the Lease says, one after the other, for as long as the block; `UNKNOWN` wherever the API server did not
    answer and something may have been missed."""
    terms: list[Term] = []
    over = threading.Event()
    fields = r"{.spec.holderIdentity}|{.spec.renewTime}{'\n'}"
    command = system.command("get", "lease", OPERATOR, "--watch", "-o", f"jsonpath={fields}")
    running: list[subprocess.Popen[str]] = []

    def follow() -> None:
        while not over.wait(0.5):
            terms.append(UNKNOWN)
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
                running[:] = [process]
                assert process.stdout is not None
                for line in process.stdout:
                    holder, _, renewed = line.strip().partition("|")
                    terms.append(Term(holder, moment(renewed) if renewed else None))

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield terms
    finally:
        over.set()
        for process in running:
            process.terminate()
        thread.join()


def overlaps(terms: list[Term]) -> list[str]:
    """Each time that one took the Lease over before the other had released it, or had let it run out."""
    found = []
    for before, after in pairwise(terms):
        if not before.holder or before.holder == after.holder or not after.holder:
            continue
        assert before.renewed is not None
        assert after.renewed is not None
        waited = (after.renewed - before.renewed).total_seconds()
        if waited < LEASE_SECONDS:
            found.append(f"{after.holder} {waited:.1f} s after {before.holder} had renewed it")
    return found
