"""vLLM's system_fingerprint stands in the usage chunk: where that is taken out, it moves to the ends of the choices."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fairqueue_proxy.metering import VllmMeter

DONE = b"data: [DONE]\n\n"
FINGERPRINT = "vllm-0.32.0"


def _meter() -> VllmMeter:
    return VllmMeter(sequences=2, strip_chunks=True, strip_end=True)


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


def _chunk(index: int, tokens: int, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": index, "text": "x", "finish_reason": finish}
    return _event({"id": "c", "choices": [choice], **_usage(tokens), **more})


def _alone(index: int, finish: str | None = None, **more: Any) -> bytes:
    return _event({"id": "c", "choices": [{"index": index, "text": "x", "finish_reason": finish}], **more})


def _usage(tokens: int) -> dict[str, Any]:
    return {"usage": {"prompt_tokens": 3, "total_tokens": 3 + tokens, "completion_tokens": tokens}}


def _end(tokens: int, **more: Any) -> bytes:
    return _event({"id": "c", "choices": [], **_usage(tokens), **more})


def test_the_fingerprint_moves_to_the_last_chunk_of_each_choice() -> None:
    meter = _meter()
    assert meter.event(_chunk(0, 1)) == _alone(0)
    assert meter.event(_chunk(0, 2, "length")) == b""
    assert meter.event(_chunk(1, 1, "stop")) == b""
    assert meter.event(_end(3, system_fingerprint=FINGERPRINT)) == (
        _alone(0, "length", system_fingerprint=FINGERPRINT) + _alone(1, "stop", system_fingerprint=FINGERPRINT)
    )
    assert meter.event(DONE) == DONE
    assert meter.rest() == b""
    assert (meter.usage.output_tokens, meter.usage.final) == (3, True)


def test_a_choice_that_ended_long_before_the_others_is_not_held_for_the_fingerprint() -> None:
    meter = _meter()
    assert meter.event(_chunk(0, 2, "length")) == b""
    assert meter.event(_chunk(1, 1)) == _alone(0, "length") + _alone(1)
    assert meter.event(_chunk(1, 2, "stop")) == b""
    assert meter.event(_end(4, system_fingerprint=FINGERPRINT)) == _alone(1, "stop", system_fingerprint=FINGERPRINT)


def test_of_many_prompts_with_one_token_each_no_more_than_a_few_chunks_are_held() -> None:
    meter = VllmMeter(sequences=20, strip_chunks=True, strip_end=True)
    passed_on = [meter.event(_chunk(index, 1, "length")) for index in range(20)]
    assert passed_on == [b""] * 8 + [_alone(index, "length") for index in range(12)]
    assert meter.event(_end(20, system_fingerprint=FINGERPRINT)) == b"".join(
        _alone(index, "length", system_fingerprint=FINGERPRINT) for index in range(12, 20)
    )


def test_a_token_that_is_held_back_is_counted_when_it_comes() -> None:
    meter = _meter()
    assert meter.event(_chunk(0, 2, "length")) == b""
    assert meter.usage.output_tokens == 2
    assert meter.is_first_token()


def test_whatever_follows_lets_go_of_what_is_held() -> None:
    error = b'data: {"error": {"message": "EngineCore died", "code": 500}}\n\n'
    for event in (error, b":\n\n", b"data: nonsense\n\n", DONE, _end(1)):
        meter = _meter()
        meter.event(_chunk(0, 1, "stop"))
        assert meter.event(event) == _alone(0, "stop") + (b"" if event == _end(1) else event)


def test_a_stream_that_breaks_off_leaves_what_is_held_to_its_end() -> None:
    meter = _meter()
    meter.event(_chunk(0, 1, "stop"))
    assert meter.rest() == _alone(0, "stop")
    assert meter.rest() == b""


def test_nothing_is_held_for_a_client_that_gets_the_usage_chunk() -> None:
    meter = VllmMeter(strip_chunks=True)
    assert meter.event(_chunk(0, 1, "stop")) == _alone(0, "stop")
    end = _end(1, system_fingerprint=FINGERPRINT)
    assert meter.event(end) == end


def test_a_chunk_that_has_its_fingerprint_is_not_held() -> None:
    meter = _meter()
    own = _alone(0, "stop", system_fingerprint=FINGERPRINT)
    assert meter.event(own) == own


def test_merged_chunks_of_a_stalled_reader_count_as_the_engine_counts_them() -> None:
    meter = _meter()
    meter.event(_chunk(0, 1))
    meter.event(_chunk(0, 1270))
    assert (meter.usage.output_tokens, meter.usage.exact) == (1270, True)


def test_two_choices_run_apart() -> None:
    meter = _meter()
    for index, tokens in ((0, 4), (1, 3), (0, 5), (1, 3)):
        meter.event(_chunk(index, tokens))
    assert (meter.usage.output_tokens, meter.usage.prompt_tokens) == (8, 6)


@given(events=st.lists(st.sampled_from([_chunk(0, 1), _chunk(0, 2, "stop"), _end(1), DONE, b"x\n\n", b"data: {\n\n"])))
def test_nothing_that_is_held_is_lost_or_changes_its_place(events: list[bytes]) -> None:
    held_back, passing = _meter(), VllmMeter(sequences=2, strip_chunks=True)
    passed_on = b"".join(held_back.event(event) for event in events) + held_back.rest()
    expected = b"".join(passing.event(event) for event in events if event != _end(1))
    assert passed_on == expected
