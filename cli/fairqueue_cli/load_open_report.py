"""The figures of an open loop, by the definitions of the fairness lab, so that they compare with `fairqueue simulate`.

Times are in the workload's own seconds: wall seconds times the speed. A request's time to first token runs from when it
was due. Lengths are those that the engine told, as that is what was served, else those that were asked for.
When a request joined the batch can't be seen from outside: the moment of its first token stands for it, so *backlogged*
here means that some request of the tenant had no token yet.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus

from fairqueue_cli.load_open import OpenResult, Sent
from fairqueue_cli.load_reply import Outcome, Reply
from fairqueue_cli.load_report import format_seconds
from fairqueue_cli.tables import format_table
from fairqueue_sim.lab.experiment import summarise
from fairqueue_sim.lab.fate import Course, Fate
from fairqueue_sim.lab.metrics import Series
from fairqueue_sim.lab.result import RunResult, TenantResult, percentile
from fairqueue_sim.lab.workloads import Workload

# In the workload's time: later than this and the load was another one.
_LATE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Lateness:
    """How long after their time requests were sent, in the workload's seconds."""

    p99: float
    max: float

    @property
    def warning(self) -> str:
        """One line if the generator fell behind, else ""."""
        if self.p99 <= _LATE_SECONDS:
            return ""
        return (
            f"requests were sent late (p99 {self.p99:.3f} s, at most {self.max:.3f} s of the workload's time): this "
            "machine can't keep up, so the figures are not those of the workload; lower --speed or take --client http"
        )


def lateness(result: OpenResult) -> Lateness:
    late = sorted(one.late_seconds * result.plan.speed for one in result.sent)
    return Lateness(percentile(late, 0.99), late[-1]) if late else Lateness(0.0, 0.0)


def summarise_open(result: OpenResult, workload: Workload) -> RunResult:
    """The figures of what was sent. Of a run that was cut short, the time until then is judged."""
    fates = [fate_of(one, result) for one in result.sent]
    course = Course(fates, ended_at=max((fate.ended_at for fate in fates if fate.ended_at is not None), default=0.0))
    seconds = min(workload.seconds, result.workload_seconds) if result.interrupted else workload.seconds
    tenants = workload.tenants
    return summarise(None, course, Series(fates, tenants, workload.weights), tenants, workload.weights, seconds)


def fate_of(sent: Sent, result: OpenResult) -> Fate:
    reply = sent.reply

    def seconds(instant: float) -> float:
        return (instant - result.started_at) * result.plan.speed

    first = None if reply.first_token_at is None else seconds(reply.first_token_at)
    fate = Fate(sent.arrival, started_at=first, first_token_at=first)
    if reply.outcome is Outcome.COMPLETED:
        prompt = sent.arrival.prompt_tokens if reply.prompt_tokens is None else reply.prompt_tokens
        fate.arrival = replace(sent.arrival, prompt_tokens=prompt, output_tokens=reply.output_tokens)
        fate.ended_at = seconds(reply.ended_at)
    elif reply.outcome is not Outcome.UNFINISHED:
        fate.refused = _reason(reply)
    return fate


def _reason(reply: Reply) -> str:
    """The proxy's name for it, else what its status means, else what happened to the connection."""
    if reply.reason:
        return reply.reason
    try:
        return f"{reply.detail} {HTTPStatus(int(reply.detail)).phrase}"
    except ValueError:
        return reply.detail


def format_open(result: OpenResult, workload: Workload, run: RunResult) -> str:
    """The table of the tenants and, below it, the figures of all together."""
    failed = Counter(one.arrival.tenant for one in result.sent if one.reply.outcome is Outcome.FAILED)
    seconds = max((one.reply.ended_at for one in result.sent), default=result.started_at) - result.started_at
    lasted = seconds * result.plan.speed
    head = ["tenant", "requests", "completed", "refused", "failed", "TTFT p50", "p90", "p99", "max", "tokens/s"]
    rows = [head, *(_row(tenant, failed, lasted) for tenant in run.tenants)]
    lines = [format_table(rows), ""]
    lines += [f"{count} x {reason}" for reason, count in run.refusals.items()]
    lines += [_total(run, lasted, result.plan.speed), _shorter(result), _late(result)]
    if result.interrupted:
        lines.append(f"interrupted: {len(result.sent)} of {len(workload.arrivals)} requests were sent")
    return "\n".join(line for number, line in enumerate(lines) if line or number == 1)


def _row(tenant: TenantResult, failed: Mapping[str, int], seconds: float) -> list[str]:
    ttft = tenant.ttft_seconds
    return [
        tenant.name,
        str(tenant.requests),
        str(tenant.completed),
        str(tenant.refused - failed[tenant.name]),
        str(failed[tenant.name]),
        *(format_seconds(value) for value in (ttft.p50, ttft.p90, ttft.p99, ttft.max)),
        f"{tenant.output_tokens / seconds:.1f}" if seconds else "-",
    ]


def _total(run: RunResult, seconds: float, speed: float) -> str:
    difference = run.service_difference
    parts = [
        f"{run.throughput_tokens_per_second:.1f} tokens/s with prompts, in {seconds:.1f} s",
        f"service difference avg {difference.avg:.1f}, max {difference.max:.1f}" if difference else "",
        f"Jain index of the backlogged {'-' if run.jain_index is None else f'{run.jain_index:.3f}'}",
    ]
    fast = f" (in the workload's time, which ran {speed:g} times as fast)" if speed != 1 else ""
    return f"total{fast}: {'; '.join(part for part in parts if part)}"


def _shorter(result: OpenResult) -> str:
    """A line if replies ended by themselves, so that less was served than the workload has."""
    whole = [one for one in result.sent if one.reply.outcome is Outcome.COMPLETED]
    short = sum(one.reply.output_tokens < one.arrival.output_tokens for one in whole)
    if not short:
        return ""
    made, asked = sum(one.reply.output_tokens for one in whole), sum(one.arrival.output_tokens for one in whole)
    plan = result.plan.plan
    hint = "" if plan.ignore_eos or plan.api == "tgi" else "; try --ignore-eos if the server takes it"
    return f"{short} of {len(whole)} replies ended by themselves ({made} of the workload's {asked} output tokens){hint}"


def _late(result: OpenResult) -> str:
    late = lateness(result)
    if late.warning:
        return f"WARNING: {late.warning}"
    return f"sent late by p99 {late.p99:.3f} s, at most {late.max:.3f} s"
