"""How much is let in at once: each budget by itself, and by what a request really needs."""

import pytest

from fairqueue_proxy.capacity import DEFAULT_REQUESTS, Capacity, EngineReport, Limits
from fairqueue_proxy.policy_in_force import kv_need
from fairqueue_proxy.scheduler import Prediction, Request, Scheduler
from fairqueue_proxy.scheduler.prediction import FIRST_GUESS_TOKENS
from proxy.conftest import StartProxy
from proxy.crowd import Crowd, serve_in_turn
from proxy.scripted_engine import scripted_engine
from upstream_engine import FakeClock


def let_in(capacity: Capacity, *, prompt: int, longest: int, sequences: int = 1, prediction: Prediction) -> int:
    """How many such requests are let in at once."""
    core = Scheduler(prediction=prediction, clock=FakeClock())
    tenant = core.add_node("a")
    for _ in range(100):
        core.enqueue(Request(tenant, prompt, longest, sequences=sequences))
    count = 0
    while (request := core.dispatch(capacity.fits)) is not None:
        capacity.take(request)
        count += 1
    return count


@pytest.mark.parametrize(
    ("kind", "prediction", "longest", "need"),
    [
        pytest.param("LlamaCpp", Prediction.MEAN, 10_000, 10 + FIRST_GUESS_TOKENS, id="what is predicted"),
        pytest.param("VLLM", Prediction.MEAN, 20, 30, id="no more than it may have"),
        pytest.param("SGLang", Prediction.MAX_TOKENS, 490, 500, id="the longest it may have"),
        pytest.param("OpenAI", Prediction.NONE, 10_000, 10, id="the prompt alone"),
        pytest.param("TGI", Prediction.NONE, 490, 500, id="tgi sets aside the longest"),
        pytest.param("TGI", Prediction.NONE, 100_000, 10 + 1024, id="tgi in pieces"),
    ],
)
def test_the_kv_budget_is_judged_by_what_an_engine_will_need(
    kind: str, prediction: Prediction, longest: int, need: int
) -> None:
    capacity = Capacity(Limits(max_requests=1000, max_tokens=6 * need - 1), kv_need(kind))
    assert let_in(capacity, prompt=10, longest=longest, prediction=prediction) == 5
    assert capacity.tokens.used == 5 * need


async def test_the_kv_budget_holds_in_front_of_an_engine(start_proxy: StartProxy) -> None:
    async with scripted_engine(total_slots=8, default_generation_settings={"n_ctx": 100_000}) as llama:
        # Nearly enough for a fourth.
        room = 4 * (4 + FIRST_GUESS_TOKENS) - 1
        stack = await start_proxy(llama.port, kind="LlamaCpp", backpressure={"maxTokens": room})
        async with Crowd(stack) as crowd:
            for number in range(5):
                await crowd.join(f"r{number}", "alice", {"prompt": [1, 2, 3, 4], "n_predict": 10_000}, "/completion")
            plays = [await llama.play() for _ in range(3)]
            queued = (await stack.queue())["queued"]
            assert [row["request_id"] for row in queued] == ["r3", "r4"]
            assert llama.unanswered == 0
            for play in plays[1:]:
                await serve_in_turn(llama, play, 0)
            await serve_in_turn(llama, plays[0], 2)


@pytest.mark.parametrize(
    ("policy", "report", "limit", "source"),
    [
        (None, EngineReport(), DEFAULT_REQUESTS, "default"),
        (None, EngineReport(concurrency_limit=8), 8, "default"),
        (None, EngineReport(concurrency_limit=128), DEFAULT_REQUESTS, "default"),
        (None, EngineReport(batch_limit=128), 128, "engine"),
        (50, EngineReport(batch_limit=4), 50, "policy"),
    ],
)
def test_the_limit_on_requests_is_the_policys_else_the_engines_else_a_default(
    policy: int | None, report: EngineReport, limit: int, source: str
) -> None:
    capacity = Capacity(Limits(max_requests=policy), kv_need("LlamaCpp"))
    capacity.report(report)
    assert (capacity.requests.limit, capacity.requests.source) == (limit, source)


def test_each_sequence_takes_a_place() -> None:
    capacity = Capacity(Limits(max_requests=10), kv_need("LlamaCpp"))
    assert let_in(capacity, prompt=1, longest=9, sequences=3, prediction=Prediction.NONE) == 3


def test_what_is_larger_than_a_whole_budget_is_let_in_alone() -> None:
    capacity = Capacity(Limits(max_requests=10, max_tokens=5), kv_need("LlamaCpp"))
    assert let_in(capacity, prompt=100, longest=9, prediction=Prediction.NONE) == 1


def test_a_prefill_is_over_with_the_first_token_and_counts_once() -> None:
    capacity = Capacity(Limits(max_requests=10, max_prefill_tokens=100), kv_need("LlamaCpp"))
    core = Scheduler(prediction=Prediction.NONE, clock=FakeClock())
    first = Request(core.add_node("a"), 100, 10)
    capacity.take(first)
    assert not capacity.fits(Request(first.leaf, 1, 10))
    capacity.answered(first)
    assert capacity.fits(Request(first.leaf, 100, 10))
    capacity.give(first)
    assert [budget.used for budget in capacity.budgets] == [0, 0, 0]
