"""Load results made by hand."""

from collections import Counter
from collections.abc import Sequence

from fairqueue_cli.load_reply import Outcome, Reply
from fairqueue_cli.load_run import LoadResult, TenantSamples
from fairqueue_cli.load_spec import LoadPlan, TenantSpec


def reply(
    sent_at: float,
    ttft: float | None,
    seconds: float,
    tokens: int = 0,
    *,
    prompt: int | None = 10,
    outcome: Outcome = Outcome.COMPLETED,
    detail: str = "",
) -> Reply:
    """A reply whose first token came `ttft` after it was sent and which was over after `seconds`."""
    first = None if ttft is None else sent_at + ttft
    return Reply(sent_at, sent_at + seconds, first, prompt, tokens, outcome, detail)


def result(
    tenants: dict[TenantSpec, Sequence[Reply]], *, ended_at: float, measured_from: float | None = 0.0
) -> LoadResult:
    samples = {
        spec.name: TenantSamples(
            spec,
            list(replies),
            output_tokens=sum(one.output_tokens for one in replies),
            outcomes=Counter(one.outcome for one in replies),
        )
        for spec, replies in tenants.items()
    }
    plan = LoadPlan("http://127.0.0.1:1", "openai", tuple(tenants))
    return LoadResult(plan, 0.0, ended_at, measured_from, samples)
