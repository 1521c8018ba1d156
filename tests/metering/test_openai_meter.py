"""Any OpenAI-compatible engine: provisional tokens while it streams, its own count at the end."""

import json
from typing import Any

import pytest

from fairqueue_proxy.metering import OpenAiMeter

DONE = b"data: [DONE]\n\n"


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


def _delta(delta: dict[str, Any], **fields: Any) -> bytes:
    choice = {"index": fields.pop("index", 0), "delta": delta, "finish_reason": fields.pop("finish_reason", None)}
    return _event({"id": "c", "choices": [choice], **fields})


def _usage(prompt: int, completion: int, cached: int | None = None) -> dict[str, Any]:
    details = {} if cached is None else {"prompt_tokens_details": {"cached_tokens": cached}}
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion, **details}


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "x"},
        {"reasoning_content": "x"},
        {"reasoning": "x"},
        {"refusal": "no"},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]},
    ],
    ids=lambda delta: next(iter(delta)),
)
def test_a_chunk_with_something_in_it_is_one_provisional_token(delta: dict[str, Any]) -> None:
    meter = OpenAiMeter()
    event = _delta(delta)
    assert meter.event(event) == event
    assert (meter.usage.output_tokens, meter.usage.exact, meter.is_first_token()) == (1, False, True)


@pytest.mark.parametrize(
    "delta", [{"role": "assistant", "content": ""}, {"role": "assistant", "content": None}, {}, {"tool_calls": []}]
)
def test_a_chunk_with_nothing_in_it_is_no_token(delta: dict[str, Any]) -> None:
    meter = OpenAiMeter()
    meter.event(_delta(delta, finish_reason="stop"))
    assert (meter.usage.output_tokens, meter.is_first_token()) == (0, False)
    assert meter.usage.malformed_events == 0


def test_the_usage_chunk_settles_the_provisional_count() -> None:
    meter = OpenAiMeter()
    meter.event(_delta({"content": "two tokens"}))
    usage_chunk = _event({"choices": [], "usage": _usage(7, 5, cached=4)})
    assert meter.event(usage_chunk) == usage_chunk
    assert meter.event(DONE) == DONE
    usage = meter.usage
    assert (usage.prompt_tokens, usage.cached_tokens, usage.output_tokens, usage.counted_tokens) == (7, 4, 5, 1)
    assert usage.final
    assert usage.exact


def test_usage_that_only_the_proxy_wanted_is_taken_out() -> None:
    meter = OpenAiMeter(strip_usage=True)
    assert meter.event(_delta({"content": "x"}, usage=None)) == _delta({"content": "x"})
    assert meter.event(_event({"choices": [], "usage": _usage(7, 1)})) == b""
    assert meter.usage.prompt_tokens == 7


def test_a_text_about_usage_is_left_alone() -> None:
    meter = OpenAiMeter(strip_usage=True)
    event = b'data: { "choices": [{"text": "x", "note": {"usage": null}}] }\n\n'
    assert meter.event(event) == event


def test_usage_that_the_engine_sends_with_every_chunk_is_a_live_count_and_stays() -> None:
    meter = OpenAiMeter(strip_usage=True)
    for completion in (1, 4):
        event = _delta({"content": "x"}, usage=_usage(7, completion))
        assert meter.event(event) == event
        assert (meter.usage.output_tokens, meter.usage.exact) == (completion, True)
    meter.event(_delta({}, finish_reason="stop", usage=_usage(7, 5)))
    meter.event(DONE)
    assert (meter.usage.prompt_tokens, meter.usage.output_tokens, meter.usage.final) == (7, 5, True)


def test_usage_of_zeros_until_the_end_is_no_count() -> None:
    meter = OpenAiMeter()
    meter.event(_delta({"content": "x"}, usage=_usage(0, 0)))
    assert (meter.usage.output_tokens, meter.usage.exact) == (1, False)


def test_a_prompt_sampled_twice_counts_twice() -> None:
    meter = OpenAiMeter(sequences=2, copies=2)
    meter.event(_delta({"content": "a"}, index=0))
    meter.event(_delta({"content": "b"}, index=1))
    assert meter.usage.output_tokens == 2
    meter.event(_event({"choices": [], "usage": _usage(7, 10, cached=3)}))
    assert (meter.usage.prompt_tokens, meter.usage.cached_tokens, meter.usage.output_tokens) == (14, 6, 10)


def test_a_plain_reply_is_counted_by_its_usage_and_has_no_drift() -> None:
    meter = OpenAiMeter()
    meter.head(200, {"content-type": "application/json"})
    body = json.dumps({"choices": [{"index": 0, "text": "x"}], "usage": _usage(7, 5)}).encode()
    assert meter.body(body) == body
    assert (meter.usage.prompt_tokens, meter.usage.output_tokens, meter.usage.counted_tokens) == (7, 5, 5)
    assert meter.usage.final


@pytest.mark.parametrize("body", [b'{"choices":[]}', b"<html>", b"", b"[]", b'{"usage":{"completion_tokens":-1}}'])
def test_a_plain_reply_without_usage_is_passed_on_uncounted(body: bytes) -> None:
    meter = OpenAiMeter()
    meter.head(200, {})
    assert meter.body(body) == body
    assert (meter.usage.output_tokens, meter.usage.final, meter.usage.malformed_events) == (0, False, 1)


def test_a_stream_that_never_tells_its_usage_stays_provisional() -> None:
    meter = OpenAiMeter()
    meter.event(_delta({"content": "x"}))
    meter.event(DONE)
    assert (meter.usage.prompt_tokens, meter.usage.final, meter.usage.exact) == (None, False, False)


def test_an_event_of_filters_without_choices_is_not_malformed() -> None:
    meter = OpenAiMeter()
    event = _event({"choices": [], "prompt_filter_results": []})
    assert meter.event(event) == event
    assert meter.usage.malformed_events == 0
