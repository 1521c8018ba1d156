"""Ten minutes in which anything is killed and changed at random, under load: no client that tries again loses a
request, nobody is charged for what the engine did not do, the usage log of a pod that is killed lacks at most what
ended within its last second, and afterwards all is true again.

E2E_CHAOS_SECONDS: for how long (600). E2E_CHAOS_SEED: of what happens; else another one each time, which is printed.
"""

import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from suite.billing import FOLDER, Tally, billed_engine, check_bills, read_lines, truth_file, usage_volume
from suite.chaos import Chaos, Keys
from suite.kubectl import Json, Kubectl, until
from suite.node_parts import is_our_own_node
from suite.objects import deployment, policy, service
from suite.operators import followed_lease, leader, overlaps
from suite.patient import patient_clients
from suite.place import Place
from suite.pods import restarts, view, wait_ready
from suite.policies import grant, keyed, placed, until_ready

TENANTS = {"alice": 1, "bob": 1}
STREAMS = {"alice": 6, "bob": 6}
REPLICAS = 3
QUIET_SECONDS = 60.0
# What the engine did, by the tenant in the requests' ids.
TALLY = """
import collections, json, sys
tally = collections.defaultdict(collections.Counter)
for line in open(sys.argv[1]):
    event = json.loads(line)
    if event["event"] == "ended":
        tenant = tally[event["request_id"].partition(".")[0]]
        tenant.update(input=event["prompt_tokens"], output=event["made_tokens"], requests=1)
        tenant[event["outcome"]] += 1
print(json.dumps(tally))
"""


@pytest.fixture
def usage(system: Kubectl, place: Place) -> Iterator[Path | None]:
    """The folder of the usage log, where the node is this machine."""
    if not is_our_own_node():
        yield None
        return
    with usage_volume(system, place) as folder:
        yield folder


@pytest.mark.long
def test_ten_minutes_of_chaos(system: Kubectl, place: Place, usage: Path | None) -> None:
    seconds = float(os.environ.get("E2E_CHAOS_SECONDS", "600"))
    seed = int(os.environ.get("E2E_CHAOS_SEED") or random.SystemRandom().getrandbits(32))
    print(f"E2E_CHAOS_SEED={seed} E2E_CHAOS_SECONDS={seconds:.0f}", flush=True)
    keys = Keys.of(list(TENANTS))
    made = placed(place.kubectl, keyed(policy(TENANTS), keys.refs()))
    grant(place.kubectl)
    engine = billed_engine(slots=16, volume=None if usage else {"emptyDir": {}})
    place.kubectl.apply(made, keys.secret(), service(), deployment(engine, replicas=REPLICAS))
    until_ready(place.kubectl, pods=REPLICAS)
    spared = wait_ready(place.kubectl, REPLICAS)[0]
    until(lambda: place.clients.ask(f"{place.url()}/health").status == 200, "the Service serves")
    with patient_clients(place.kubectl, [place.url()], STREAMS, tokens=30, keys=keys.in_use()) as clients:
        until(lambda: served(place, spared), "the pod that is spared has work")
        chaos = Chaos(system, place, random.Random(seed), made, keys, clients, spared["metadata"]["name"])
        with followed_lease(system) as terms:
            chaos.go_on(seconds)
        began = time.monotonic()
        until_ready(place.kubectl, pods=REPLICAS, revision=chaos.revision(), seconds=QUIET_SECONDS + 60)
        took = time.monotonic() - began
    print(f"true {took:.1f} s after the last of {dict(chaos.done)}; {clients}")
    views = [view(place.clients, pod) for pod in wait_ready(place.kubectl, REPLICAS)]
    assert [it.config()["revision"] for it in views] == [chaos.revision()] * REPLICAS
    assert clients.lost == []
    assert took <= QUIET_SECONDS
    leader(system)
    assert overlaps(terms) == []
    check_charges(place, spared, usage)
    if usage is not None:
        place.kubectl.run("scale", "deployment/engine", "--replicas=0")
        until(lambda: not place.kubectl.all("pods", "app=engine"), "all pods are gone", seconds=120)
        check_bills(usage, chaos.kills)


def served(place: Place, pod: Json) -> bool:
    """Each tenant has been."""
    return all(view(place.clients, pod).service().values())


def check_charges(place: Place, spared: Json, usage: Path | None) -> None:
    """Each tenant was charged what the engine did for it, in the pod that ran all the while; and will be billed so."""
    name = spared["metadata"]["name"]
    found = place.kubectl.get("pod", name)
    assert found["metadata"]["uid"] == spared["metadata"]["uid"]
    assert restarts(found, "engine") == restarts(found, "fairqueue-proxy") == 0
    truth = f"{FOLDER}/{truth_file(name)}"
    tally = json.loads(place.kubectl.exec(name, "python", "-c", TALLY, truth, container="engine"))
    samples = view(place.clients, found).metrics()
    for tenant in TENANTS:
        charged = {
            kind: samples["fairqueue_tokens_total", f'tenant="{tenant}",kind="{kind}"'] for kind in ("input", "output")
        }
        print(f"{tenant}: charged {charged}; the engine's own {tally[tenant]}")
        assert tally[tenant]["done"] == tally[tenant]["requests"] > 0
        assert charged == {kind: tally[tenant][kind] for kind in charged}
        if usage is not None:
            until(lambda: billed(usage, name, tenant) == charged, "all of it in the usage log", seconds=5)  # noqa: B023


def billed(usage: Path, pod: str, tenant: str) -> dict[str, int]:
    """Tokens of a tenant in what a pod has written."""
    tally = Tally()
    for request_id, line in read_lines(usage).items():
        if line.pod == pod:
            tally.add(request_id, line.counts)
    return dict(tally.of(tenant))
