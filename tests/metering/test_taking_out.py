"""What the proxy asks the engine for is taken out again: the client gets what it would have got alone."""

import json
import random

import pytest

from fairqueue_proxy.metering import TgiChatMeter
from metering.normalised import normalised
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
    assert normalised(passed_on) == normalised(not_asked.reply)
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
    assert normalised(passed_on) == normalised(not_asked.reply)
    assert meter.usage.counted_tokens == 12


def test_llamacpp_usage_that_the_client_wanted_stays_with_its_timings() -> None:
    asked, wanted = exchange("llamacpp", "01-chat-stream-timings-usage"), exchange("llamacpp", "01-chat-stream-usage")
    meter = asked.call(wanted.request).meter()
    assert normalised(replay(asked, meter)) == normalised(wanted.reply)


def test_everything_around_a_replaced_value_keeps_its_bytes() -> None:
    meter = TgiChatMeter(strip_usage=True)
    chunk = b': note\r\nid: 7\r\ndata: {"choices": [{"delta": {"content": "\\u00e9 1.50"}}],  "usage": null}\r\n\r\n'
    assert meter.event(chunk) == chunk
    assert meter.event(b'data:{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n') == b""


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ("01-chat-stream-continuous-usage", "01-chat-stream"),
        ("01-chat-stream-continuous-usage", "01-chat-stream-usage-false"),
        ("01-chat-stream-continuous-usage", "01-chat-stream-continuous-usage-only"),
        ("01-chat-stream-continuous-usage", "01-chat-stream-usage"),
        ("02-completions-stream-continuous-usage", "02-completions-stream"),
        ("02-completions-stream-continuous-usage", "02-completions-stream-usage"),
    ],
)
def test_vllm_usage_that_the_client_did_not_want_leaves_no_trace(asked: str, wanted: str) -> None:
    with_usage, alone = exchange("vllm", asked), exchange("vllm", wanted)
    for seed in range(3):
        meter = with_usage.call(alone.request).meter()
        assert normalised(replay(with_usage, meter, cuts=random.Random(seed))) == normalised(alone.reply)
        assert meter.usage.output_tokens == meter.usage.counted_tokens == 8


@pytest.mark.parametrize("case", ["01-chat-stream-continuous-usage", "03-ngram-completions-stream"])
def test_vllm_usage_that_the_client_wanted_stays_byte_for_byte(case: str) -> None:
    recorded = exchange("vllm", case)
    assert replay(recorded, recorded.call().meter(), cuts=random.Random(4)) == recorded.reply


def test_llamacpp_timings_of_responses_are_taken_out_of_the_deltas_only() -> None:
    asked, alone = exchange("llamacpp", "04-responses-stream-timings"), exchange("llamacpp", "04-responses-stream")
    passed_on = replay(asked, asked.call(alone.request).meter(), cuts=random.Random(5))
    assert normalised(passed_on) == normalised(alone.reply)
    assert passed_on.count(b'"timings"') == 1


@pytest.mark.parametrize("results", [1, 2])
def test_fields_of_a_llamacpp_result_that_the_client_did_not_select_are_taken_out(results: int) -> None:
    recorded = exchange("llamacpp", "03-native-plain")
    whole = json.loads(recorded.reply)
    request = json.dumps({"prompt": "x", "response_fields": ["content", "stop"]}).encode()
    call = recorded.call(request)
    shown = {name: whole[name] for name in json.loads(call.body)["response_fields"]}
    meter = call.meter()
    meter.head(200, {})
    kept = json.loads(meter.body(json.dumps(shown if results == 1 else [shown] * results).encode()))
    expected = {"content": whole["content"], "stop": True}
    assert kept == (expected if results == 1 else [expected] * results)
    assert meter.usage.output_tokens == 8 * results


def test_the_last_event_of_a_llamacpp_stream_shows_the_selected_fields_only() -> None:
    meter = exchange("llamacpp", "03-native-stream").call(b'{"prompt":"x","response_fields":["content"]}').meter()
    running = b'data: {"index":0,"content":"a","stop":false,"tokens_predicted":1,"tokens_evaluated":5}\n\n'
    assert meter.event(running) == running
    last = b'data: {"content":"","index":0,"stop":true,"tokens_predicted":2,"tokens_evaluated":5}\n\n'
    assert meter.event(last) == b'data: {"content":""}\n\n'
    assert (meter.usage.output_tokens, meter.usage.final) == (2, True)
