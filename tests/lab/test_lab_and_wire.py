"""The lab and the wire agree: a small workload through real sockets, proxy and simulated engine, and in virtual time.

Both have the same batching model inside, and the same scheduler before it; what may differ is all that is between:
HTTP, metering by bytes, an event loop, estimates of prompts, real timers. Only one thing the lab leaves out on purpose:
the way of a request and of its first token through three processes. At five times the speed these milliseconds count
fivefold, so they are measured, with requests that are alone: as much as that a wait may be longer on the wire.
"""

import random
from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pytest
from msgspec import structs

from fairqueue_cli.load_open import OpenPlan, run_open
from fairqueue_cli.load_open_report import fate_of
from fairqueue_cli.load_spec import LoadPlan
from fairqueue_sim import load_profile, running_engine
from fairqueue_sim.lab.engines import LabEngine
from fairqueue_sim.lab.experiment import Experiment, run_scheduler
from fairqueue_sim.lab.fate import Fate
from fairqueue_sim.lab.metrics import Series
from fairqueue_sim.lab.policies import open_policy
from fairqueue_sim.lab.trace import Arrival
from fairqueue_sim.lab.workloads import Workload
from proxy_stack import key_of, serving_proxy

PROFILE, SPEED, SLOTS = "a10g-llama2-7b", 5, 8
# Two more than there are slots, so that no slot stands empty while the next request is on its way.
AT_ONCE = SLOTS + 2
WEIGHTS = {"heavy": 2, "light": 1, "rare": 1}
SECONDS = 60.0
# From when on all wait, and until nothing more comes.
WARM_UP_SECONDS = 15.0


def workload(seed: int) -> Workload:
    """Two floods of different weight and length, and one that comes now and then."""
    source = random.Random(seed)
    arrivals = []
    for tenant, rate, longest in (("heavy", 2.4, 160), ("light", 4.0, 80), ("rare", 0.15, 60)):
        at = source.expovariate(rate)
        while at < SECONDS:
            output = source.randint(20, longest)
            arrivals.append(Arrival(at, tenant, source.randint(20, 200), output, max_tokens=output))
            at += source.expovariate(rate)
    return Workload("small", sorted(arrivals, key=lambda arrival: arrival.seconds), SECONDS, WEIGHTS)


def alone() -> Workload:
    """One after the other, with nothing else to do."""
    arrivals = [Arrival(2.0 * number, "rare", 100, 20, max_tokens=20) for number in range(30)]
    return Workload("alone", arrivals, SECONDS, WEIGHTS)


def in_the_lab(made: Workload) -> list[Fate]:
    document = open_policy("TGI", made.tenants, WEIGHTS)
    document = structs.replace(document, backpressure=structs.replace(document.backpressure, max_requests=AT_ONCE))
    engine = LabEngine(load_profile(PROFILE), "tgi", slots=SLOTS)
    return run_scheduler(Experiment(made, engine), "policy", document=document).course.fates


async def on_the_wire(folder: Path, made: Workload) -> list[Fate]:
    tenants = [{"name": name, "weight": weight} for name, weight in WEIGHTS.items()]
    queue = {"timeout": "600s", "maxRequestsPerTenant": 1000}
    async with (
        running_engine("tgi", profile=PROFILE, speed=SPEED, slots=SLOTS, mean_output_tokens=0) as engine,
        serving_proxy(
            folder,
            engine.port,
            folder / "log",
            tenants=tenants,
            queue=queue,
            backpressure={"maxRequests": AT_ONCE},
        ) as stack,
    ):
        keys = {name: key_of(name) for name in WEIGHTS}
        plan = OpenPlan(LoadPlan(stack.url, "tgi", ()), made.arrivals, SPEED, keys)
        result = await run_open(plan, rng=random.Random(1))
    return [fate_of(sent, result) for sent in result.sent]


def made_folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name


def service(fates: Sequence[Fate], made: Workload) -> np.ndarray:
    return Series(fates, made.tenants, {}).service(WARM_UP_SECONDS, SECONDS)


def mean_ttft(fates: Sequence[Fate], tenant: str) -> float:
    return mean(fate.ttft_seconds or 0.0 for fate in fates if fate.arrival.tenant == tenant)


@pytest.mark.long
async def test_the_same_workload_gives_the_same_service_and_waits_in_both(tmp_path: Path) -> None:
    differences: dict[str, list[float]] = {tenant: [] for tenant in WEIGHTS}
    lab_means: dict[str, list[float]] = {tenant: [] for tenant in WEIGHTS}
    in_lab, on_wire = np.zeros(len(WEIGHTS)), np.zeros(len(WEIGHTS))
    made = alone()
    away = mean_ttft(await on_the_wire(made_folder(tmp_path, "alone"), made), "rare")
    away -= mean_ttft(in_the_lab(made), "rare")
    print(f"on the way: {away / SPEED * 1000:.1f} ms")
    for seed in range(5):
        made = workload(seed)
        lab, wire = in_the_lab(made), await on_the_wire(made_folder(tmp_path, str(seed)), made)
        assert [fate.refused for fate in wire] == [None] * len(made.arrivals)
        print("service, wire over lab:", service(wire, made) / service(lab, made))
        in_lab, on_wire = in_lab + service(lab, made), on_wire + service(wire, made)
        for tenant in WEIGHTS:
            lab_means[tenant].append(mean_ttft(lab, tenant))
            differences[tenant].append(mean_ttft(wire, tenant) - lab_means[tenant][-1])
    # Of all together: of one, a request of the rare tenant that crosses the window's end is 7 % already.
    assert on_wire == pytest.approx(in_lab, rel=0.05)
    for tenant, found in differences.items():
        error = stdev(found) / sqrt(len(found))
        print(f"{tenant}: TTFT in the lab {mean(lab_means[tenant]):.3f} s, wire {mean(found):+.3f} s +- {error:.3f}")
    for tenant, found in differences.items():
        difference, allowed = mean(found), max(0.05 * mean(lab_means[tenant]), 2 * stdev(found) / sqrt(len(found)))
        assert -allowed <= difference <= allowed + away, tenant
