"""`/v1/messages` and `/v1/responses`: provisional tokens while they stream, the engine's count at the end."""

import json
from typing import Any

import pytest

from fairqueue_proxy.metering import ErrorKind, EventSplitter, MessagesMeter, Meter, ResponsesMeter, Usage
from metering.recorded import exchange, usage_of
from metering.stand_ins import STAND_INS, event

# prompt, cached and output tokens; tokens counted while they streamed.
LLAMACPP = {
    "04-messages-plain": (41, 40, 8, 8),
    "04-messages-stream": (41, 24, 8, 8),
    "04-messages-stream-timings": (41, 40, 8, 8),
    "04-messages-stream-tool": (41, 40, 80, 6),
    "04-responses-plain": (37, 36, 8, 8),
    "04-responses-stream": (37, 31, 8, 7),
    "04-responses-stream-eos": (33, 24, 25, 24),
    "04-responses-stream-timings": (37, 36, 8, 8),
    "04-responses-stream-tool": (32, 24, 64, 6),
}


@pytest.mark.parametrize("case", LLAMACPP)
def test_llamacpp_is_counted_with_what_its_cache_had(case: str) -> None:
    usage = usage_of(exchange("llamacpp", case))
    assert (usage.prompt_tokens, usage.cached_tokens, usage.output_tokens) == LLAMACPP[case][:3]
    assert usage.final
    assert usage.malformed_events == 0


def test_llamacpp_responses_are_exact_while_they_stream_because_timings_are_asked_for() -> None:
    recorded = exchange("llamacpp", "04-responses-stream-timings")
    alone = exchange("llamacpp", "04-responses-stream")
    meter = recorded.call(alone.request).meter()
    counts = []
    for each in EventSplitter().feed(recorded.reply):
        meter.event(each)
        if meter.usage.exact:
            counts.append(meter.usage.counted_tokens)
            assert meter.usage.prompt_tokens == 37
    assert sorted(set(counts)) == [1, 2, 3, 4, 5, 6, 7, 8]


def _fed(meter: Meter, *events: dict[str, Any]) -> Usage:
    for each in events:
        encoded = event(each, each["type"])
        assert meter.event(encoded) == encoded
    return meter.usage


def test_a_cut_message_is_charged_its_input_and_the_deltas_that_came() -> None:
    meter = MessagesMeter()
    events = EventSplitter().feed(STAND_INS["messages"].asked)
    for each in events[:5]:
        meter.event(each)
    usage = meter.usage
    assert (usage.prompt_tokens, usage.cached_tokens, usage.output_tokens) == (7, 4, 2)
    assert (usage.exact, usage.final) == (False, False)


def test_a_cut_response_is_charged_the_deltas_that_came() -> None:
    meter = ResponsesMeter()
    for each in EventSplitter().feed(STAND_INS["responses"].asked)[:3]:
        meter.event(each)
    assert (meter.usage.prompt_tokens, meter.usage.output_tokens, meter.usage.final) == (None, 2, False)


@pytest.mark.parametrize("delta", [{"delta": ""}, {"delta": None}, {}])
def test_a_delta_with_nothing_in_it_is_no_token(delta: dict[str, Any]) -> None:
    assert _fed(ResponsesMeter(), {"type": "response.output_text.delta", **delta}).output_tokens == 0
    nothing = {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "abc"}}
    assert _fed(MessagesMeter(), nothing).output_tokens == 0


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": "server_error", "message": "it broke"}, ErrorKind.FAILED),
        ({"code": "rate_limit_exceeded", "message": "slow down"}, ErrorKind.OVERLOADED),
        ({"code": "invalid_prompt", "message": "no"}, ErrorKind.REFUSED),
        ({"code": 503, "message": "busy"}, ErrorKind.OVERLOADED),
    ],
)
def test_a_failed_response_tells_why(error: dict[str, Any], kind: ErrorKind) -> None:
    failed = {"type": "response.failed", "response": {"status": "failed", "error": error, "usage": None}}
    usage = _fed(ResponsesMeter(), failed)
    assert usage.error is not None
    assert (usage.error.kind, usage.error.message) == (kind, error["message"])


def test_a_response_that_fails_after_its_first_token_has_failed_whatever_it_says() -> None:
    usage = _fed(
        ResponsesMeter(),
        {"type": "response.output_text.delta", "delta": "Hi"},
        {"type": "error", "code": "rate_limit_exceeded", "message": "slow down"},
    )
    assert usage.error is not None
    assert usage.error.kind is ErrorKind.FAILED
    assert usage.output_tokens == 1


def test_a_plain_response_that_failed_is_an_error_with_what_it_used() -> None:
    meter = ResponsesMeter()
    meter.head(200, {})
    body = {"status": "failed", "error": {"code": "server_error", "message": "x"}}
    meter.body(json.dumps({**body, "usage": {"input_tokens": 7, "output_tokens": 2}}).encode())
    assert (meter.usage.prompt_tokens, meter.usage.output_tokens) == (7, 2)
    assert meter.usage.error is not None


def test_usage_of_zeros_while_a_response_is_made_is_none() -> None:
    created = {"status": "in_progress", "usage": {"input_tokens": 0, "output_tokens": 0}}
    usage = _fed(ResponsesMeter(), {"type": "response.created", "response": created})
    assert (usage.prompt_tokens, usage.final) == (None, False)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("overloaded_error", ErrorKind.OVERLOADED),
        ("rate_limit_error", ErrorKind.OVERLOADED),
        ("invalid_request_error", ErrorKind.REFUSED),
        ("api_error", ErrorKind.FAILED),
        ("internal_error", ErrorKind.FAILED),
    ],
)
def test_an_error_event_of_a_message_is_classified_by_its_type(name: str, kind: ErrorKind) -> None:
    usage = _fed(MessagesMeter(), {"type": "error", "error": {"type": name, "message": "words"}})
    assert usage.error is not None
    assert (usage.error.kind, usage.error.message) == (kind, "words")


@pytest.mark.parametrize(
    ("status", "kind"), [(529, ErrorKind.OVERLOADED), (429, ErrorKind.OVERLOADED), (400, ErrorKind.REFUSED)]
)
def test_an_error_body_of_a_message_is_classified_by_its_status(status: int, kind: ErrorKind) -> None:
    meter = MessagesMeter()
    meter.head(status, {})
    meter.body(b'{"type":"error","error":{"type":"api_error","message":"words"}}')
    assert meter.usage.error is not None
    assert meter.usage.error.kind is kind


@pytest.mark.parametrize("meter", [MessagesMeter(), ResponsesMeter()])
def test_a_plain_reply_without_usage_is_passed_on_uncounted(meter: Meter) -> None:
    meter.head(200, {})
    assert meter.body(b'{"id":"x"}') == b'{"id":"x"}'
    assert (meter.usage.final, meter.usage.malformed_events) == (False, 1)
