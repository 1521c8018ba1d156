"""Whatever is asked of the batching core, its books balance, nothing is lost and nobody overtakes."""

from hypothesis import given
from hypothesis import strategies as st

from fairqueue_sim import BatchLimits, ContinuousBatch, Generation, GenerationState, load_profile

ENDED = (GenerationState.FINISHED, GenerationState.FAILED, GenerationState.CANCELLED)

generations = st.builds(
    Generation,
    number=st.just(0),
    prompt_tokens=st.integers(1, 60),
    max_new_tokens=st.one_of(st.none(), st.integers(1, 70)),
    end_at=st.one_of(st.none(), st.integers(1, 80)),
    fail_at=st.one_of(st.none(), st.none(), st.none(), st.integers(1, 50)),
    tokens_per_step=st.integers(1, 3),
)
# Before each step: who arrives, and which of those there are is cancelled.
schedules = st.lists(
    st.tuples(st.lists(generations, max_size=3), st.one_of(st.none(), st.integers(0, 30))), max_size=25
)
limits = st.builds(
    BatchLimits,
    kv_tokens=st.integers(130, 400),
    prefill_budget_tokens=st.integers(20, 150),
    max_input_tokens=st.just(127),
    max_total_tokens=st.just(130),
    slots=st.one_of(st.none(), st.integers(1, 4)),
    piece_tokens=st.integers(20, 40),
)


@given(limits, schedules)
def test_the_books_balance_and_every_token_is_accounted_for(
    limits: BatchLimits, schedule: list[tuple[list[Generation], int | None]]
) -> None:
    model = ContinuousBatch(load_profile("tiny"), limits)
    everybody: list[Generation] = []
    made: dict[int, list[int]] = {}
    first_joined: list[int] = []
    finished: list[int] = []

    def step() -> bool:
        found = model.step()
        model.check()
        if found is None:
            return False
        assert found.duration_seconds > 0
        for each, number in found.tokens:
            made.setdefault(each.number, []).append(number)
        first_joined.extend(each.number for each in found.joined if each.number not in first_joined)
        finished.extend(each.number for each, _ in found.finished)
        return True

    for arrivals, cancelled in schedule:
        for each in arrivals:
            each.number = len(everybody)
            everybody.append(each)
            model.submit(each)
        if cancelled is not None and cancelled < len(everybody):
            model.cancel(everybody[cancelled])
        step()
    # Whatever was asked for is over after as many steps as there are tokens and prompt pieces at most.
    for _ in range(200 * (len(everybody) + 1)):
        if not step():
            break
    else:
        raise AssertionError("the batch does not come to an end")

    assert (model.running, model.waiting, model.kv_used_tokens) == (0, 0, 0)
    assert all(each.state in ENDED for each in everybody)
    assert first_joined == sorted(first_joined), "somebody has overtaken"
    assert len(finished) == len(set(finished))
    for each in everybody:
        assert made.get(each.number, []) == list(range(1, each.generated_tokens + 1))
        if each.state is GenerationState.FINISHED:
            assert each.generated_tokens == each.end_at or each.generated_tokens >= each.piece_end_tokens
