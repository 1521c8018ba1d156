"""How much is let in at once: each budget by itself, by what a request really needs, from whoever knows best."""

from collections.abc import Sequence

import pytest

from fairqueue_proxy import capacity as budgets
from fairqueue_proxy.capacity import REFUSAL_REMEMBERED_SECONDS, Capacity, EngineReport, Limits
from fairqueue_proxy.policy_in_force import kv_need
from fairqueue_proxy.scheduler import Node, Prediction, Request, Scheduler
from fairqueue_proxy.scheduler.prediction import FIRST_GUESS_TOKENS
from proxy.conftest import StartProxy
from proxy.crowd import Crowd, serve_in_turn
from proxy.scripted_engine import scripted_engine
from upstream_engine import FakeClock

MANY = 1000


class Engine:
    """A capacity, and those that it has let in. Each step takes a second."""

    def __init__(self, limits: Limits | None = None, kind: str = "VLLM") -> None:
        self.clock = FakeClock()
        self.capacity = Capacity(limits or Limits(), kv_need(kind), self.clock)
        self.leaf: Node = Scheduler(clock=self.clock).add_node("a")
        self.taken: list[Request] = []

    def request(self, prompt: int = 1, *, longest: int = 10, sequences: int = 1, streamed: bool = True) -> Request:
        return Request(self.leaf, prompt, longest, sequences=sequences, streamed=streamed)

    def fill(self, *, prompt: int = 1, sequences: int = 1) -> list[Request]:
        """Lets in as many as fit."""
        came = []
        while self.capacity.fits(request := self.request(prompt, sequences=sequences)):
            self.capacity.take(request)
            came.append(request)
            assert len(came) <= MANY
        self.taken += came
        return came

    def answer(self, requests: Sequence[Request], *, somebody_waits: bool = True) -> None:
        """These begin to answer, in one step."""
        self.clock.now_seconds += 1
        for request in requests:
            self.capacity.answered(request, somebody_waits=somebody_waits)

    def give(self, *requests: Request) -> None:
        for request in requests:
            self.taken.remove(request)
            self.capacity.give(request)

    def begin(self, count: int) -> list[Request]:
        """Lets in so many, one after the other, and each has begun before the next one comes."""
        begun = [self.request() for _ in range(count)]
        for request in begun:
            assert self.capacity.fits(request)
            self.capacity.take(request)
            self.answer([request], somebody_waits=False)
        self.taken += begun
        return begun

    def become_full(self, places: int) -> list[Request]:
        """Runs so many for a while, each replaced when it ends, and never more, though more are there: these."""
        running: list[Request] = []
        for _ in range(40):
            self.fill()
            queue = [request for request in self.taken if request not in running]
            if len(running) == places:
                self.give(running.pop(0))
            started = queue[: places - len(running)]
            self.answer(started)
            # One token for each of the others; they come at the same time.
            for request in running:
                self.capacity.grown(request)
            running += started
        return [request for request in self.taken if request not in running]

    def source(self, budget: str) -> tuple[int | None, str]:
        (found,) = (each for each in self.capacity.budgets if each.name == budget)
        return found.limit, found.source


def first() -> int:
    """So many are let in at once of an engine of which nothing is known."""
    return len(Engine().fill())


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
def test_a_policys_kv_budget_is_judged_by_what_an_engine_will_need(
    kind: str, prediction: Prediction, longest: int, need: int
) -> None:
    capacity = Capacity(Limits(max_requests=MANY, max_tokens=6 * need - 1), kv_need(kind), FakeClock())
    assert let_in(capacity, prompt=10, longest=longest, prediction=prediction) == 5
    assert capacity.tokens.used == 5 * need


async def test_the_kv_budget_holds_in_front_of_an_engine(start_proxy: StartProxy) -> None:
    async with scripted_engine(total_slots=8, default_generation_settings={"n_ctx": 100_000}) as llama:
        # Nearly enough for a fourth.
        stack = await start_proxy(
            llama.port, kind="LlamaCpp", backpressure={"maxTokens": 4 * (4 + FIRST_GUESS_TOKENS) - 1}
        )
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
    ("limits", "report", "requests", "tokens"),
    [
        pytest.param(Limits(), EngineReport(), (None, "none"), (None, "none"), id="nobody says anything"),
        pytest.param(Limits(), EngineReport(batch_limit=128), (129, "engine"), (None, "none"), id="slots, one stands"),
        pytest.param(
            Limits(), EngineReport(concurrency_limit=8), (8, "engine"), (None, "none"), id="more would be refused"
        ),
        pytest.param(
            Limits(), EngineReport(batch_limit=9, concurrency_limit=8), (8, "engine"), (None, "none"), id="the smaller"
        ),
        pytest.param(Limits(), EngineReport(kv_tokens=70), (None, "none"), (70, "engine"), id="its cache"),
        pytest.param(
            Limits(max_requests=50),
            EngineReport(batch_limit=4, kv_tokens=70),
            (50, "policy"),
            (None, "none"),
            id="the policy's requests",
        ),
        pytest.param(
            Limits(max_tokens=50),
            EngineReport(batch_limit=4, kv_tokens=70),
            (None, "none"),
            (50, "policy"),
            id="the policy's tokens",
        ),
        pytest.param(
            Limits(max_prefill_tokens=50),
            EngineReport(batch_limit=4, kv_tokens=70),
            (5, "engine"),
            (70, "engine"),
            id="a prefill limit leaves the others alone",
        ),
    ],
)
def test_a_limit_is_the_policys_else_the_engines(
    limits: Limits, report: EngineReport, requests: tuple[int | None, str], tokens: tuple[int | None, str]
) -> None:
    engine = Engine(limits)
    engine.capacity.report(report)
    assert (engine.source("requests"), engine.source("tokens")) == (requests, tokens)


@pytest.mark.parametrize(
    ("report", "requests"),
    [
        pytest.param(EngineReport(), (13, "engine"), id="which reports nothing"),
        pytest.param(EngineReport(batch_limit=8), (9, "engine"), id="which knows better"),
    ],
)
def test_what_the_engine_was_started_with_holds_for_an_engine(
    report: EngineReport, requests: tuple[int | None, str]
) -> None:
    engine = Engine(Limits())
    engine.capacity.engine_is_started_with(12)
    engine.capacity.report(report)
    assert engine.source("requests") == requests


@pytest.mark.parametrize(
    ("limits", "learns"),
    [
        (Limits(), True),
        (Limits(max_prefill_tokens=10_000), True),
        (Limits(max_requests=500), False),
        (Limits(max_tokens=500), False),
    ],
)
def test_nothing_is_learned_where_the_policy_limits_requests_or_tokens(limits: Limits, learns: bool) -> None:
    engine = Engine(limits)
    assert first() < 500
    assert len(engine.fill()) == (first() if learns else 500)
    limit, source = engine.source("unstarted")
    assert (limit is not None, source) == ((True, "learned") if learns else (False, "none"))
    assert engine.capacity.budgets[3].used == len(engine.taken)


def test_an_engine_in_which_nothing_has_begun_is_sent_more_than_one_that_works() -> None:
    idle, working = Engine(), Engine()
    for engine in (idle, working):
        # Refusals by another name: the limit on what may be unstarted is small now.
        engine.capacity.intake.refused()
    working.begin(1)
    assert len(idle.fill()) == budgets.IDLE_LIMIT
    assert len(working.fill()) == working.source("unstarted")[0]
    assert len(working.taken) < len(idle.taken)


def test_a_policy_without_its_limits_learns_again() -> None:
    engine = Engine(Limits(max_requests=1))
    assert len(engine.fill()) == 1
    engine.capacity.apply(Limits(), kv_need("VLLM"))
    assert engine.source("requests") == (None, "none")
    assert len(engine.fill()) == first() - 1


def test_an_engine_that_says_nothing_is_limited_to_what_it_was_seen_to_run_and_a_probe() -> None:
    engine = Engine()
    for waits in engine.become_full(8):
        engine.give(waits)
    assert engine.source("requests") == (8 + engine.capacity.intake.probe, "learned")
    # As many, whatever their tokens: these are not what it is short of.
    assert engine.source("tokens") == (None, "none")
    assert len(engine.fill()) == engine.capacity.intake.probe


def test_an_engine_in_which_nobody_waits_by_its_own_count_is_sent_more_at_once() -> None:
    engine = Engine()
    for waits in engine.become_full(8):
        engine.give(waits)
    before = engine.capacity.requests.limit
    assert before is not None
    engine.capacity.waiting(0, somebody_waits=True)
    assert engine.source("requests") == (8 + engine.capacity.intake.probe, "learned") > (before, "learned")


def test_what_an_engine_says_holds_where_more_was_learned_and_what_was_learned_where_it_says_more() -> None:
    engine = Engine()
    engine.become_full(8)
    for batch, source in ((4, "engine"), (100, "learned")):
        engine.capacity.report(EngineReport(batch_limit=batch))
        assert engine.source("requests") == (min(batch, 8) + engine.capacity.intake.probe, source)


def test_the_probe_goes_beyond_the_tokens_that_the_engine_holds_too() -> None:
    engine = Engine()
    engine.capacity.report(EngineReport(kv_tokens=70))
    # Seven fit, the eighth stands.
    assert len(engine.fill(prompt=10)) == 7 + engine.capacity.intake.probe


def test_each_sequence_takes_a_place() -> None:
    engine = Engine(Limits(max_requests=10))
    assert len(engine.fill(sequences=3)) == 3


def test_each_sequence_is_one_that_has_not_started() -> None:
    engine = Engine()
    engine.fill(sequences=3)
    # The last one may go beyond, as a request can't be sent in part.
    assert first() <= engine.capacity.budgets[3].used == 3 * len(engine.taken) < first() + 3


@pytest.mark.parametrize(
    ("limits", "report"),
    [
        (Limits(max_tokens=5), EngineReport()),
        (Limits(max_prefill_tokens=5), EngineReport()),
        (Limits(max_requests=5), EngineReport()),
        (Limits(), EngineReport(kv_tokens=5, batch_limit=5)),
    ],
    ids=["tokens", "prefill", "requests", "engine"],
)
def test_what_is_larger_than_a_whole_budget_is_let_in_alone(limits: Limits, report: EngineReport) -> None:
    engine = Engine(limits)
    engine.capacity.report(report)
    large = engine.request(100, sequences=100)
    small = engine.request()
    engine.capacity.take(small)
    assert not engine.capacity.fits(large)
    engine.capacity.give(small)
    assert engine.capacity.fits(large)
    engine.capacity.take(large)
    assert not engine.capacity.fits(engine.request(5, sequences=5))


def test_a_prefill_is_over_with_the_first_token_and_counts_once() -> None:
    engine = Engine(Limits(max_prefill_tokens=100))
    first = engine.request(100)
    engine.capacity.take(first)
    assert not engine.capacity.fits(engine.request(1))
    engine.capacity.answered(first, somebody_waits=False)
    assert engine.capacity.fits(engine.request(100))
    engine.capacity.give(first)
    assert [budget.used for budget in engine.capacity.budgets] == [0, 0, 0, 0]


def test_what_has_begun_before_its_turn_is_no_prefill_and_not_unstarted() -> None:
    engine = Engine(Limits(max_prefill_tokens=100))
    observed = engine.request(100)
    engine.capacity.take(observed)
    engine.capacity.started_before(observed)
    assert [budget.used for budget in engine.capacity.budgets] == [1, 100, 0, 0]
    engine.capacity.give(observed)
    assert [budget.used for budget in engine.capacity.budgets] == [0, 0, 0, 0]


def test_output_takes_tokens_as_it_grows_and_all_of_them_come_back() -> None:
    engine = Engine(Limits(max_tokens=20))
    request = engine.request(10, longest=MANY)
    engine.capacity.take(request)
    for request.output_tokens, used in ((1, 11), (5, 15), (3, 15), (12, 22)):
        engine.capacity.grown(request)
        assert engine.capacity.tokens.used == used
    assert not engine.capacity.fits(engine.request(1))
    engine.capacity.give(request)
    assert engine.capacity.tokens.used == 0


def test_what_is_set_aside_for_output_from_the_start_is_not_taken_again_as_it_comes() -> None:
    engine = Engine(kind="TGI")
    request = engine.request(10, longest=100)
    engine.capacity.take(request)
    request.output_tokens = 60
    engine.capacity.grown(request)
    assert engine.capacity.tokens.used == 110


def test_after_a_refusal_no_more_are_sent_than_the_engine_had_then() -> None:
    engine = Engine()
    engine.begin(6)
    engine.capacity.refused()
    assert engine.source("requests") == (6, "learned")
    assert engine.fill() == []


def test_a_request_that_was_refused_for_itself_takes_nobodys_place() -> None:
    engine = Engine()
    engine.begin(6)
    engine.capacity.refused()
    assert engine.source("requests") == (6, "learned")
    engine.capacity.was_its_own_fault()
    assert engine.source("requests")[1] != "learned"


def test_after_a_refusal_there_is_one_more_for_each_turnover() -> None:
    engine = Engine()
    engine.begin(6)
    engine.capacity.refused()
    for turnover in range(1, 4):
        # It was refused at more than that: as many as fit end, and one more is tried.
        for _ in range(6 + turnover):
            assert engine.source("requests")[0] in (5 + turnover, 6 + turnover)
            engine.give(engine.taken[0])
            engine.begin(1)
        assert engine.source("requests") == (6 + turnover, "learned")
        engine.fill()
        assert engine.capacity.requests.used == 6 + turnover
        engine.answer(engine.taken)


def test_a_refusal_is_forgotten_after_a_while() -> None:
    engine = Engine()
    engine.begin(6)
    engine.capacity.refused()
    engine.clock.now_seconds += REFUSAL_REMEMBERED_SECONDS
    engine.give(engine.taken[0])
    assert engine.source("requests")[1] == "learned"
    engine.clock.now_seconds += 0.1
    engine.give(engine.taken[0])
    assert engine.source("requests")[1] != "learned"


def test_an_estimate_of_more_than_the_engine_ever_holds_does_not_wait_for_an_empty_one() -> None:
    engine = Engine()
    engine.capacity.report(EngineReport(kv_tokens=1000, context_tokens=100))
    engine.fill(prompt=10)
    engine.give(engine.taken[0])
    core = Scheduler(clock=FakeClock())
    assert engine.capacity.fits(Request(core.add_node("a"), 100_000, 10)) == engine.capacity.fits(
        Request(core.add_node("b"), 100, 10)
    )
    assert Capacity(Limits(max_tokens=1000), kv_need("VLLM"), FakeClock()).fits(Request(core.add_node("c"), 5000, 10))


def test_an_engine_that_refuses_though_it_is_empty_is_sent_one_at_a_time() -> None:
    engine = Engine()
    engine.capacity.refused()
    assert engine.source("requests") == (1, "learned")
    assert len(engine.fill()) == 1


def test_refusals_change_nothing_where_the_policy_sets_the_limit() -> None:
    engine = Engine(Limits(max_requests=20))
    engine.capacity.refused()
    assert (len(engine.fill()), engine.source("requests")) == (20, (20, "policy"))


def test_of_an_engine_that_has_restarted_nothing_is_known_but_what_it_says_itself() -> None:
    engine = Engine()
    engine.become_full(4)
    engine.give(*engine.taken)
    engine.capacity.refused()
    engine.capacity.report(EngineReport(batch_limit=100))
    engine.capacity.restarted()
    assert engine.source("requests") == (101, "engine")
    assert engine.source("tokens") == (None, "none")
    assert len(engine.fill()) == first()


def test_a_paused_engine_takes_nothing_whatever_fits() -> None:
    engine = Engine(Limits(max_requests=10))
    engine.capacity.paused = True
    assert not engine.capacity.free
    assert engine.fill() == []


@pytest.mark.parametrize(
    "limits", [Limits(max_requests=3), Limits(max_tokens=3), Limits(max_prefill_tokens=3), Limits()]
)
def test_nothing_is_free_as_soon_as_one_budget_is_full(limits: Limits) -> None:
    engine = Engine(limits)
    assert engine.capacity.free
    engine.fill()
    assert not engine.capacity.free
    engine.give(engine.taken[0])
    assert engine.capacity.free


def test_the_budgets_are_told_by_name_in_one_order() -> None:
    assert [budget.name for budget in Engine().capacity.budgets] == ["requests", "tokens", "prefill", "unstarted"]
