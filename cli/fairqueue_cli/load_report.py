"""The figures of a closed loop: percentiles, rates, service and Jain's index, as a table for people and as a result.

Pure. The measured span goes from the end of the warm-up (the start of the run without one) to the run's end.
A reply that lies across an end of the span counts with the part of its tokens that lies inside, taken as evenly spread
between its first token and its end. Percentiles are nearest-rank, so that each is a value that was measured.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fairqueue_cli.load_reply import Outcome, Reply
from fairqueue_cli.load_run import LoadResult, TenantSamples
from fairqueue_cli.tables import format_table
from fairqueue_sim.lab.result import Result, RunResult, TenantResult, TtftSeconds, percentile

# The cost of a token in `service`: VTC, OSDI '24, section 3.1, with its weights 1 and 2.
_INPUT_COST = 1
_OUTPUT_COST = 2


@dataclass(frozen=True, slots=True)
class Ttft:
    """Time to first token, in seconds, of `n` replies."""

    n: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class TenantReport:
    """`requests` counts those sent inside the span; tokens are those that came inside it, whoever asked when.

    `prompt_tokens` covers the replies whose engine told it, which one that was cut never does.
    """

    name: str
    weight: float
    requests: int
    completed: int
    refused: int
    failed: int
    prompt_tokens: int
    output_tokens: int
    output_tokens_per_second: float
    ttft: Ttft | None
    problems: dict[str, int]

    @property
    def service(self) -> int:
        return _INPUT_COST * self.prompt_tokens + _OUTPUT_COST * self.output_tokens


@dataclass(frozen=True, slots=True)
class LoadReport:
    """`throughput_tokens_per_second` counts prompt and output tokens, as the VTC paper does."""

    seconds: float
    tenants: tuple[TenantReport, ...]
    throughput_tokens_per_second: float
    jain_index: float | None

    @property
    def output_tokens_per_second(self) -> float:
        return sum(tenant.output_tokens_per_second for tenant in self.tenants)


def summarise(result: LoadResult) -> LoadReport:
    start = result.ended_at if result.measured_from is None else result.measured_from
    seconds = result.ended_at - start
    tenants = tuple(_summarise_tenant(samples, start, result.ended_at) for samples in result.tenants.values())
    tokens = sum(tenant.prompt_tokens + tenant.output_tokens for tenant in tenants)
    return LoadReport(
        seconds=seconds,
        tenants=tenants,
        throughput_tokens_per_second=_rate(tokens, seconds),
        jain_index=jain_index([tenant.service / tenant.weight for tenant in tenants]),
    )


def _summarise_tenant(samples: TenantSamples, start: float, end: float) -> TenantReport:
    sent_inside = [reply for reply in samples.replies if reply.sent_at >= start]
    tokens = sum(tokens_inside(reply, start, end) for reply in samples.replies)
    began_inside = [r for r in samples.replies if r.first_token_at is not None and start <= r.first_token_at <= end]
    outcomes = Counter(reply.outcome for reply in sent_inside)
    return TenantReport(
        name=samples.spec.name,
        weight=samples.spec.weight,
        requests=len(sent_inside),
        completed=outcomes[Outcome.COMPLETED],
        refused=outcomes[Outcome.REFUSED],
        failed=outcomes[Outcome.FAILED],
        prompt_tokens=sum(reply.prompt_tokens or 0 for reply in began_inside),
        output_tokens=round(tokens),
        output_tokens_per_second=_rate(tokens, end - start),
        ttft=summarise_ttft([reply.ttft_seconds for reply in sent_inside if reply.ttft_seconds is not None]),
        problems=dict(sorted(Counter(reply.problem for reply in sent_inside if reply.detail).items())),
    )


def tokens_inside(reply: Reply, start: float, end: float) -> float:
    """How many of a reply's output tokens came between `start` and `end`."""
    first = reply.first_token_at
    if first is None:
        return 0.0
    if reply.ended_at <= first:
        return float(reply.output_tokens) if start <= first <= end else 0.0
    inside = min(end, reply.ended_at) - max(start, first)
    return reply.output_tokens * max(0.0, inside) / (reply.ended_at - first)


def summarise_ttft(seconds: Sequence[float]) -> Ttft | None:
    if not seconds:
        return None
    ordered = sorted(seconds)
    p50, p90, p95, p99 = (percentile(ordered, share) for share in (0.5, 0.9, 0.95, 0.99))
    return Ttft(len(ordered), sum(ordered) / len(ordered), p50, p90, p95, p99, ordered[-1])


def jain_index(values: Sequence[float]) -> float | None:
    """Jain's fairness index: 1 if all are equal, 1/n if one has everything; None if nobody has anything."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else None


def _rate(tokens: float, seconds: float) -> float:
    return tokens / seconds if seconds > 0 else 0.0


def to_result(workload: str, model_profile: str | None, runs: Sequence[tuple[str | None, LoadReport]]) -> Result:
    """The one shape of results; what a closed loop cannot know is None."""
    return Result(workload, model_profile, tuple(_run_result(scheduler, report) for scheduler, report in runs))


def _run_result(scheduler: str | None, report: LoadReport) -> RunResult:
    refusals: Counter[str] = Counter()
    for tenant in report.tenants:
        refusals.update(tenant.problems)
    return RunResult(
        scheduler=scheduler,
        throughput_tokens_per_second=report.throughput_tokens_per_second,
        service_difference=None,
        jain_index=report.jain_index,
        gap=None,
        engine_waiting=None,
        tenants=tuple(_tenant_result(tenant) for tenant in report.tenants),
        refusals=dict(sorted(refusals.items())),
    )


def _tenant_result(tenant: TenantReport) -> TenantResult:
    ttft = tenant.ttft
    return TenantResult(
        name=tenant.name,
        weight=tenant.weight,
        requests=tenant.requests,
        completed=tenant.completed,
        refused=tenant.refused,
        prompt_tokens=tenant.prompt_tokens,
        output_tokens=tenant.output_tokens,
        service=tenant.service,
        ttft_seconds=TtftSeconds(ttft.mean, ttft.p50, ttft.p90, ttft.p99, ttft.max) if ttft else TtftSeconds(),
    )


def format_seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.3f} s" if seconds < 1 else f"{seconds:.2f} s"


def format_report(report: LoadReport) -> str:
    head = ["tenant", "requests", "completed", "refused", "failed", "TTFT p50", "p95", "n", "tokens/s"]
    rows = [head, *(_row(tenant) for tenant in report.tenants)]
    lines = [format_table(rows), ""]
    for tenant in report.tenants:
        for problem, count in tenant.problems.items():
            lines.append(f"{tenant.name}: {count} x {problem}")
    jain = "-" if report.jain_index is None else f"{report.jain_index:.3f}"
    lines.append(
        f"total: {report.output_tokens_per_second:.1f} output tokens/s, {report.throughput_tokens_per_second:.1f} with "
        f"prompts, in {report.seconds:.1f} s; Jain index of service per weight {jain}"
    )
    return "\n".join(lines)


def _row(tenant: TenantReport) -> list[str]:
    ttft = tenant.ttft
    return [
        tenant.name,
        str(tenant.requests),
        str(tenant.completed),
        str(tenant.refused),
        str(tenant.failed),
        format_seconds(ttft.p50 if ttft else None),
        format_seconds(ttft.p95 if ttft else None),
        str(ttft.n if ttft else 0),
        f"{tenant.output_tokens_per_second:.1f}",
    ]
