"""The operator at the size that it is made for: 200 policies and 2,000 pods.

Nodes and proxies are made up. All else is real: the API server, the injector that made the pods what they are, and the
operator itself.
"""

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from suite.api_writes import changed, counted, more, versions
from suite.fake_nodes import fake_nodes, stub_proxies
from suite.fleet import TENANTS, Fleet, deployed
from suite.kubectl import Json, Kubectl, until
from suite.operators import OPERATOR, SELECTOR, scale
from suite.pods import is_injected, is_ready
from suite.settling import Settling, Version, settling

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        bool(os.environ.get("E2E_CLUSTER")),
        reason="the stub of the proxies enters the network of the repository's own node",
    ),
]

FLEET = Fleet()
QUIET_SECONDS = float(os.environ.get("E2E_QUIET_SECONDS", "300"))
# When the last status is there, Events of the last transitions still wait: there are 25 of them a second at most.
EVENTS_SECONDS = 20.0
CHANGED = ("llm-00", "llm-04", "llm-09")

CONVERGED_WITHIN_SECONDS, CHANGED_WITHIN_SECONDS, MOST_MEMORY_MB = 60.0, 2.0, 250.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of one operator, from its start."""

    converged_seconds: float
    written: list[str]
    """Objects that are others after the quiet time."""
    requested: dict[tuple[str, str, str], float]
    """Requests of that time that were to write, by the API server."""
    counted: float
    """The same by the operator."""
    changed_seconds: list[float]
    memory_mb: float


@pytest.fixture(scope="module")
def figures(system: Kubectl) -> Iterator[Figures]:
    with no_operator(system), fake_nodes(FLEET.nodes), deployed(FLEET), stub_proxies():
        assert [it for it in pods_of(system) if not (is_injected(it) and is_ready(it))] == []
        with settling(FLEET.pods, len(TENANTS)) as policies:
            converged_seconds = converge(system, policies)
            print(f"all Ready {converged_seconds:.1f} s after the operator was wanted", flush=True)
            print(f"by then it had {memory_mb(system):.0f} MB and wrote {writes(system)}", flush=True)
            time.sleep(EVENTS_SECONDS)
            before = versions(system, set(FLEET.names)), counted(system), sum(writes(system).values())
            time.sleep(QUIET_SECONDS)
            after = versions(system, set(FLEET.names)), counted(system), sum(writes(system).values())
            written, requested = changed(before[0], after[0]), more(before[1], after[1])
            print(f"in the {QUIET_SECONDS:.0f} s after: {len(written)} objects written, {requested}", flush=True)
            changed_seconds = [change(policies, name) for name in CHANGED]
            print(f"changes were programmed after {[round(it, 2) for it in changed_seconds]} s", flush=True)
            memory = memory_mb(system)
            print(f"at most it had {memory:.0f} MB", flush=True)
        yield Figures(
            converged_seconds,
            written,
            requested,
            after[2] - before[2],
            changed_seconds,
            memory,
        )


@contextmanager
def no_operator(system: Kubectl) -> Iterator[None]:
    """None works before the block says so; afterwards there are as many as before."""
    replicas = system.get("deployment", OPERATOR)["spec"]["replicas"]
    scale(system, 0)
    try:
        yield
    finally:
        scale(system, replicas)


def pods_of(system: Kubectl) -> list[Json]:
    """The fleet's."""
    path = "/api/v1/pods?labelSelector=fairqueue.dev/inject%3Dtrue"
    found = [
        it for it in json.loads(system.run("get", "--raw", path))["items"] if it["metadata"]["namespace"] in FLEET.names
    ]
    assert len(found) == FLEET.pod_count
    return found


def converge(system: Kubectl, policies: Settling) -> float:
    """Starts one operator; returns the seconds until all policies were settled at once."""
    count = len(FLEET.names) * len(FLEET.policy_names)
    began = last_said = time.monotonic()
    system.run("scale", f"deployment/{OPERATOR}", "--replicas=1")

    def all_settled() -> list[float] | None:
        nonlocal last_said
        settled = [at for version, at in policies.settled().items() if version.namespace in FLEET.names]
        if time.monotonic() - last_said > 10:
            last_said = time.monotonic()
            print(f"{last_said - began:.0f} s: {len(settled)} of {count} policies are Ready", flush=True)
        return settled if len(settled) == count else None

    return max(until(all_settled, f"{count} policies Ready", seconds=300, every=0.5)) - began


def change(policies: Settling, name: str) -> float:
    """Seconds from a policy with another weight to its status that says that it is in force, which is then so."""
    kubectl = Kubectl(FLEET.names[len(FLEET.names) // 2])
    weight = json.dumps([{"op": "replace", "path": "/spec/tenants/1/weight", "value": 7}])
    made = json.loads(kubectl.run("patch", "fpol", name, "--type=json", "-p", weight, "-o", "json"))["metadata"]
    took, found = policies.until_settled(Version(made["namespace"], name, made["generation"]))
    revision = found["status"]["configRevision"]
    for number in range(FLEET.pods):
        path = f"/api/v1/namespaces/{made['namespace']}/pods/{name}-{number:02}:9820/proxy/-/config"
        assert json.loads(kubectl.run("get", "--raw", path))["revision"] == revision
    return took


def operator(system: Kubectl) -> str:
    """The name of the one that there is."""
    [found] = system.all("pods", SELECTOR)
    return str(found["metadata"]["name"])


def memory_mb(system: Kubectl) -> float:
    """The most that its process had at any time."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", system.exec(operator(system), "cat", "/proc/1/status"), re.MULTILINE)
    assert found
    return int(found[1]) * 1024 / 1e6


def writes(system: Kubectl) -> dict[str, float]:
    """How often it has written what, by its own count."""
    path = f"/api/v1/namespaces/{system.namespace}/pods/{operator(system)}:8080/proxy/metrics"
    found = re.findall(
        r'^fairqueue_operator_writes_total\{what="(\w+)"\} (\S+)$', system.run("get", "--raw", path), re.M
    )
    assert found
    return {what: float(value) for what, value in found}


def test_all_policies_are_ready_within_a_minute_of_the_first_start(figures: Figures) -> None:
    assert figures.converged_seconds <= CONVERGED_WITHIN_SECONDS


def test_then_nothing_is_written(figures: Figures) -> None:
    assert (figures.written, figures.requested, figures.counted) == ([], {}, 0)


def test_a_changed_policy_is_programmed_within_two_seconds(figures: Figures) -> None:
    assert max(figures.changed_seconds) <= CHANGED_WITHIN_SECONDS


def test_it_takes_at_most_a_quarter_of_a_gigabyte(figures: Figures) -> None:
    assert figures.memory_mb <= MOST_MEMORY_MB
