"""How long the lab takes for a large trace, and how much memory: 100,000 requests of 1,000 tenants by default.

.venv/bin/python bench/lab_scale.py [REQUESTS [TENANTS [SCHEDULER]]]
"""

import resource
import sys
import time

import numpy as np

from fairqueue_sim import load_profile
from fairqueue_sim.lab.engines import LabEngine
from fairqueue_sim.lab.experiment import PRODUCT, Experiment, run_scheduler
from fairqueue_sim.lab.workloads import Workload, arena

SECONDS_OF_1500_REQUESTS = 600


def main(requests: int = 100_000, tenants: int = 1_000, scheduler: str = PRODUCT) -> None:
    random = np.random.RandomState(1)
    sizes = random.pareto(1.1, tenants) + 0.05
    counts = np.maximum((sizes / sizes.sum() * requests).astype(int), 1)
    seconds = requests / 1500 * SECONDS_OF_1500_REQUESTS
    arrivals = sorted(arena(random, counts=list(counts), seconds=seconds), key=lambda arrival: arrival.seconds)
    profile = load_profile("a10g-llama2-7b")
    experiment = Experiment(Workload("large", arrivals, seconds), LabEngine(profile, profile.rules))
    started = time.perf_counter()
    result = run_scheduler(experiment, scheduler).result
    took = time.perf_counter() - started
    mebibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    completed = sum(tenant.completed for tenant in result.tenants)
    print(f"{scheduler}: {completed} of {len(arrivals)} requests of {tenants} tenants")
    print(f"{took:.0f} s, {mebibytes:.0f} MiB")


if __name__ == "__main__":
    main(*(kind(value) for kind, value in zip((int, int, str), sys.argv[1:], strict=False)))
