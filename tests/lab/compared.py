"""Small comparisons for the tests of pictures and pages: real runs, on the machine that exists for tests."""

from collections.abc import Sequence

from fairqueue_sim import load_profile
from fairqueue_sim.lab.engines import LabEngine
from fairqueue_sim.lab.experiment import Experiment, Run, run_scheduler
from fairqueue_sim.lab.trace import Arrival
from fairqueue_sim.lab.workloads import Workload

__all__ = ["Runs", "compare", "many", "workload_of"]

Runs = list[tuple[str, Run]]
# Room for two of the requests below: a hundred of them a second.
KV_TOKENS = 112


def workload_of(
    counts: dict[str, int], *, name: str = "two sorts", seconds: float = 2.0, weights: dict[str, int] | None = None
) -> Workload:
    """So many requests of each tenant, evenly spaced."""
    arrivals = [
        Arrival(seconds * number / count, tenant, prompt_tokens=30, output_tokens=20, max_tokens=20)
        for tenant, count in counts.items()
        for number in range(1, count + 1)
    ]
    arrivals.sort(key=lambda arrival: arrival.seconds)
    return Workload(name, arrivals, seconds, weights or {}, "tiny")


def many(tenants: int) -> Workload:
    """A crowd of which each sends one request, but for the first: that sends ten."""
    return workload_of({f"user-{number}": 10 if number == 1 else 1 for number in range(1, tenants + 1)})


def compare(workload: Workload, schedulers: Sequence[str] = ("fcfs", "vtc"), kv_tokens: int = KV_TOKENS) -> Runs:
    """Runs it under each of these."""
    experiment = Experiment(workload, LabEngine(load_profile("tiny"), "tgi", kv_tokens))
    return [(scheduler, run_scheduler(experiment, scheduler)) for scheduler in schedulers]
