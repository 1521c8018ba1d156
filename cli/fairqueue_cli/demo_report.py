"""What the demo says at its end: both phases side by side. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from fairqueue_cli.load_report import LoadReport, TenantReport, format_seconds, summarise
from fairqueue_cli.load_run import LoadResult
from fairqueue_cli.tables import format_table


@dataclass(frozen=True, slots=True)
class Phase:
    """One of the two runs of the same load. `scheduler` is its name in the JSON result."""

    title: str
    scheduler: str
    result: LoadResult
    report: LoadReport


def make_phase(title: str, scheduler: str, result: LoadResult) -> Phase:
    return Phase(title, scheduler, result, summarise(result))


def tenant_of(phase: Phase, name: str) -> TenantReport:
    return next(tenant for tenant in phase.report.tenants if tenant.name == name)


def format_comparison(alone: Phase, fair: Phase, watched: str) -> str:
    """The table and, below it, what changed for the tenant `watched` and for the engine."""
    rows = [["", alone.title, fair.title]]
    for name in (tenant.name for tenant in alone.report.tenants):
        rows += _tenant_rows(name, tenant_of(alone, name), tenant_of(fair, name))
    rows.append(["all: tokens per second", *(f"{p.report.output_tokens_per_second:.1f}" for p in (alone, fair))])
    rows.append(["measured for", *(f"{p.report.seconds:.0f} s" for p in (alone, fair))])
    return "\n".join([format_table(rows), "", *_sentences(alone, fair, watched), *_problems((alone, fair))])


def _tenant_rows(name: str, *both: TenantReport) -> list[list[str]]:
    return [
        [f"{name}: time to first token, p50", *(format_seconds(t.ttft.p50 if t.ttft else None) for t in both)],
        [f"{name}: time to first token, p95", *(format_seconds(t.ttft.p95 if t.ttft else None) for t in both)],
        [f"{name}: first tokens measured (n)", *(str(t.ttft.n if t.ttft else 0) for t in both)],
        [f"{name}: tokens per second", *(f"{t.output_tokens_per_second:.1f}" for t in both)],
    ]


def _sentences(alone: Phase, fair: Phase, watched: str) -> list[str]:
    before, after = tenant_of(alone, watched).ttft, tenant_of(fair, watched).ttft
    lines = []
    if before is not None and after is not None:
        lines.append(
            f"A {watched} user waits {format_seconds(after.p50)} for the first token with fairqueue, "
            f"{format_seconds(before.p50)} without: {_times(before.p50, after.p50)} (p50)."
        )
    rates = alone.report.output_tokens_per_second, fair.report.output_tokens_per_second
    if rates[0] > 0:
        lines.append(f"The engine makes {rates[1] / rates[0]:.2f} of the tokens per second that it made alone.")
    return lines


def _times(before: float, after: float) -> str:
    return f"{before / after:.1f} times shorter" if after <= before else f"{after / before:.1f} times longer"


def _problems(phases: Sequence[Phase]) -> list[str]:
    return [
        f"{phase.title}: {tenant.name}: {count} x {problem}"
        for phase in phases
        for tenant in phase.report.tenants
        for problem, count in tenant.problems.items()
    ]
