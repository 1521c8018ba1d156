"""What the proxy asks the engine for is taken out again: the client gets what it would have got alone."""

import json
import random
from typing import Any

import pytest

from fairqueue_proxy.metering import TgiChatMeter
from metering.recorded import exchange, replay


@pytest.mark.parametrize(
    ("asked", "not_asked"),
    [("03-stream-details", "03-stream-plain"), ("02-root-stream-details", "02-root-stream")],
)
def test_tgi_details_that_the_client_did_not_want_leave_no_trace(asked: str, not_asked: str) -> None:
    with_details, without = exchange("tgi", asked), exchange("tgi", not_asked)
    meter = with_details.call(without.request).meter()
    assert replay(with_details, meter, cuts=random.Random(1)) == without.reply
    assert meter.usage.prompt_tokens == 6
    assert meter.usage.final


def test_tgi_details_that_the_client_wanted_stay() -> None:
    recorded = exchange("tgi", "03-stream-details")
    assert b'"input_length":6' in replay(recorded, recorded.call().meter())


def test_best_of_details_that_the_client_did_not_want_are_taken_out_of_the_reply() -> None:
    recorded = exchange("tgi", "01-generate-best-of")
    request = json.loads(recorded.request)
    del request["parameters"]["details"]
    meter = recorded.call(json.dumps(request).encode()).meter()
    assert replay(recorded, meter) == b'{"generated_text":" word1 word2"}'
    assert meter.usage.output_tokens == 4


def test_best_of_details_are_taken_out_of_the_array_of_the_root_route_too() -> None:
    recorded = exchange("tgi", "02-root-plain-details")
    meter = recorded.call(b'{"inputs":"x","parameters":{"best_of":2,"do_sample":true}}').meter()
    assert replay(recorded, meter) == b'[{"generated_text":" word1 word2 word3"}]'


def test_tgi_usage_chunk_that_the_client_did_not_want_is_dropped() -> None:
    asked, not_asked = exchange("tgi", "04-chat-stream-usage"), exchange("tgi", "04-chat-stream")
    meter = asked.call(not_asked.request).meter()
    passed_on = replay(asked, meter, cuts=random.Random(2))
    assert _without_ids(passed_on) == _without_ids(not_asked.reply)
    # TGI puts a null usage into every chunk, asked or not.
    assert passed_on.count(b'"usage":null') == 4
    assert meter.usage.prompt_tokens == 20


def test_a_cut_tool_call_leaves_the_client_nothing_but_the_end() -> None:
    asked, not_asked = exchange("tgi", "13-chat-tools-cut-stream"), exchange("tgi", "13-chat-tools-cut-stream-no-usage")
    meter = asked.call(not_asked.request).meter()
    assert replay(asked, meter) == not_asked.reply == b"data: [DONE]\n\n"
    assert (meter.usage.prompt_tokens, meter.usage.output_tokens) == (614, 5)


@pytest.mark.parametrize("route", ["01-chat", "02-completions"])
def test_llamacpp_timings_that_the_client_did_not_want_are_taken_out_but_for_the_last(route: str) -> None:
    asked, not_asked = exchange("llamacpp", f"{route}-stream-timings"), exchange("llamacpp", f"{route}-stream")
    meter = asked.call(not_asked.request).meter()
    passed_on = replay(asked, meter, cuts=random.Random(3))
    assert passed_on != asked.reply
    assert _without_ids(passed_on) == _without_ids(not_asked.reply)
    assert meter.usage.counted_tokens == 12


def test_llamacpp_usage_that_the_client_wanted_stays_with_its_timings() -> None:
    asked, wanted = exchange("llamacpp", "01-chat-stream-timings-usage"), exchange("llamacpp", "01-chat-stream-usage")
    meter = asked.call(wanted.request).meter()
    assert _without_ids(replay(asked, meter)) == _without_ids(wanted.reply)


def test_everything_around_a_replaced_value_keeps_its_bytes() -> None:
    meter = TgiChatMeter(strip_usage=True)
    chunk = b': note\r\nid: 7\r\ndata: {"choices": [{"delta": {"content": "\\u00e9 1.50"}}],  "usage": null}\r\n\r\n'
    assert meter.event(chunk) == chunk
    assert meter.event(b'data:{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n') == b""


def _without_ids(stream: bytes) -> list[Any]:
    """The events with what differs between two runs of the same request set to its type."""
    return [_typed(json.loads(data)) if data != b"[DONE]" else "[DONE]" for data in _data(stream)]


def _data(stream: bytes) -> list[bytes]:
    return [event.removeprefix(b"data: ") for event in stream.split(b"\n\n") if event]


def _typed(chunk: dict[str, Any]) -> dict[str, Any]:
    varying = {"id", "created", "timings", "usage"}
    typed = {name: _shape(value) if name in varying else value for name, value in chunk.items()}
    assert list(typed) == list(chunk)
    return typed


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shape(each) for name, each in value.items()}
    return None if value is None else "number" if isinstance(value, (int, float)) else "text"
