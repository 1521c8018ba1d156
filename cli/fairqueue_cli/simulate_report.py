"""The figures of `fairqueue simulate` for people: a line for each scheduler, and what each tenant got."""

from collections.abc import Sequence

from fairqueue_cli.tables import format_table
from fairqueue_sim.lab.experiment import Experiment, Run
from fairqueue_sim.lab.result import Result, RunResult, TenantResult

TENANTS_SHOWN = 12


def result_of(experiment: Experiment, runs: Sequence[tuple[str, Run]]) -> Result:
    """All runs in the shape of results."""
    profile = experiment.engine.profile.name
    return Result(experiment.workload.name, profile, tuple(run.result for _, run in runs))


def format_result(experiment: Experiment, result: Result) -> str:
    """Two tables, and what their columns mean."""
    workload = experiment.workload
    count, tenants = len(workload.arrivals), len(workload.tenants)
    lines = [
        f"{result.workload}: {count} requests of {tenants} tenants on {result.model_profile} "
        f"({experiment.engine.rules} batching)",
        "",
        format_table([_HEAD, *(_row(run) for run in result.runs)]),
        "",
        "difference: service per second that tenants lack to the best served, as far as they wanted more (0 is best);",
        "jain: 1 if all who always waited got the same; light: mean time to first token of tenants with few requests",
    ]
    for run in result.runs:
        lines += ["", f"{run.scheduler}:", *_tenants(run)]
    return "\n".join(lines)


_HEAD = ["scheduler", "tokens/s", "difference avg", "max", "jain", "light TTFT", "gap/bound", "refused"]
_TENANT_HEAD = ["  tenant", "weight", "requests", "completed", "refused", "service", "TTFT mean", "p90", "max"]


def _row(run: RunResult) -> list[str]:
    difference, light = run.service_difference, run.light_tenants
    gap = f"{run.gap.max / run.gap.bound:.2f}" if run.gap is not None and run.gap.bound else "-"
    return [
        run.scheduler or "-",
        f"{run.throughput_tokens_per_second:.0f}",
        f"{difference.avg:.2f}" if difference is not None else "-",
        f"{difference.max:.2f}" if difference is not None else "-",
        f"{run.jain_index:.4f}" if run.jain_index is not None else "-",
        _seconds(light.ttft_seconds.mean if light is not None else None),
        gap,
        str(sum(run.refusals.values())),
    ]


def _tenants(run: RunResult) -> list[str]:
    heaviest = sorted(run.tenants, key=lambda tenant: -tenant.service)[:TENANTS_SHOWN]
    shown = [tenant for tenant in run.tenants if tenant in heaviest]
    lines = [format_table([_TENANT_HEAD, *(_tenant_row(tenant) for tenant in shown)])]
    if rest := len(run.tenants) - len(shown):
        lines.append(f"  and {rest} with less service (--json has all)")
    if run.refusals:
        lines.append("  refused: " + ", ".join(f"{count} {reason}" for reason, count in run.refusals.items()))
    return lines


def _tenant_row(tenant: TenantResult) -> list[str]:
    ttft = tenant.ttft_seconds
    return [
        f"  {tenant.name}",
        f"{tenant.weight:g}",
        str(tenant.requests),
        str(tenant.completed),
        str(tenant.refused),
        str(tenant.service),
        *(_seconds(seconds) for seconds in (ttft.mean, ttft.p90, ttft.max)),
    ]


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.2f} s"
