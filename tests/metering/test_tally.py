"""Sequences of one reply, counted and settled each on its own, add up to one usage."""

from fairqueue_proxy.metering import EngineError, ErrorKind, Usage
from fairqueue_proxy.metering.tally import Tally


def _tally(expected: int) -> tuple[Tally, Usage]:
    usage = Usage()
    return Tally(usage, expected), usage


def test_what_is_counted_differs_from_what_is_settled_by_the_drift() -> None:
    tally, usage = _tally(2)
    tally.count(0, 3)
    tally.count_up_to(1, 4)
    tally.count_up_to(1, 2)
    assert (usage.output_tokens, usage.counted_tokens) == (7, 7)
    tally.settle(0, 5)
    assert (usage.output_tokens, usage.counted_tokens) == (9, 7)


def test_a_reply_is_final_when_every_expected_sequence_is_settled() -> None:
    tally, usage = _tally(2)
    tally.settle(0, 5)
    assert not usage.final
    tally.settle(1, 6)
    assert (usage.final, usage.exact, usage.output_tokens) == (True, True, 11)


def test_a_settled_sequence_does_not_grow_any_more() -> None:
    tally, usage = _tally(2)
    tally.settle(0, 5)
    tally.count(0)
    tally.count_up_to(0, 9)
    assert (usage.output_tokens, usage.counted_tokens) == (5, 0)


def test_a_reply_settled_as_a_whole_does_not_grow_any_more() -> None:
    tally, usage = _tally(1)
    tally.settle_whole(5, 7, 9)
    tally.count(0)
    tally.tell_prompt(0, 1)
    tally.close()
    assert (usage.output_tokens, usage.prompt_tokens, usage.cached_tokens, usage.final) == (5, 7, 7, True)


def test_prompts_are_told_when_all_of_them_are() -> None:
    tally, usage = _tally(2)
    tally.tell_prompt(0, 7, 3)
    assert usage.prompt_tokens is None
    tally.tell_prompt(1, 8, 20)
    assert (usage.prompt_tokens, usage.cached_tokens) == (15, 11)
    tally.tell_prompt(1, 8, 0)
    assert (usage.prompt_tokens, usage.cached_tokens) == (15, 3)


def test_the_end_of_a_stream_takes_what_sequences_there_were() -> None:
    tally, usage = _tally(3)
    tally.settle(0, 5)
    tally.tell_prompt(0, 7)
    tally.close()
    assert (usage.final, usage.prompt_tokens) == (True, 7)


def test_the_end_of_a_stream_with_an_error_leaves_the_lost_sequences_open() -> None:
    tally, usage = _tally(2)
    tally.settle(0, 5)
    tally.tell_prompt(0, 7)
    usage.error = EngineError(ErrorKind.FAILED, "broke")
    tally.close()
    assert (usage.final, usage.prompt_tokens) == (False, None)


def test_the_end_of_an_empty_stream_settles_nothing() -> None:
    tally, usage = _tally(1)
    tally.close()
    assert usage == Usage()


def test_a_sequence_still_running_at_the_end_is_not_final() -> None:
    tally, usage = _tally(2)
    tally.settle(0, 5)
    tally.count(1)
    tally.close()
    assert (usage.final, usage.output_tokens) == (False, 6)
