"""Recorded replies of a real TGI router, replayed: what is counted is what the engine did."""

import random

import pytest

from metering.recorded import cases, exchange, exchanges, replay, usage_of

# prompt, output and streamed tokens as the recordings show them. The prompt of a stream is told only where the client
# asked for details or usage: the request was recorded without what the proxy adds.
NATIVE = {
    "01-generate-decoder-input-details": (6, 2, 2),
    "01-generate-details": (6, 3, 3),
    "01-generate-empty-parameters-details": (16, 4, 4),
    "01-generate-full-text-stop": (6, 4, 4),
    "01-generate-no-parameters": (16, 4, 4),
    "01-generate-plain": (6, 5, 5),
    "01-generate-stream-field-ignored": (6, 2, 2),
    "01-generate-top-n-tokens": (6, 2, 2),
    "01-generate-truncate": (3, 2, 2),
    "02-root-plain": (6, 3, 3),
    "02-root-plain-details": (6, 3, 3),
    "02-root-stream": (None, 3, 3),
    "02-root-stream-details": (6, 3, 3),
    "03-stream-details": (6, 5, 5),
    "03-stream-eos": (16, 4, 4),
    "03-stream-nan-logprob": (None, 2, 2),
    "03-stream-plain": (None, 5, 5),
    "03-stream-speculation": (17, 7, 7),
    "03-stream-stop": (6, 3, 3),
    "03-stream-top-n": (None, 2, 2),
    "03-stream-utf8": (11, 24, 24),
    "14-long-1024": (13, 1024, 1024),
    "14-long-1025": (13, 2048, 2048),
    "14-long-1500": (13, 2048, 2048),
    "14-long-1500-small-input-limit": (13, 1024, 1024),
    "14-long-unset": (13, 4083, 4083),
}
CHAT = {
    "04-chat-plain": (20, 4, 4),
    "04-chat-plain-eos-model": (27, 3, 3),
    "04-chat-plain-logprobs": (20, 2, 2),
    "04-chat-stream": (None, 4, 4),
    "04-chat-stream-eos-usage": (27, 3, 3),
    "04-chat-stream-logprobs": (None, 2, 2),
    "04-chat-stream-speculation": (28, 5, 5),
    "04-chat-stream-stop": (None, 3, 3),
    "04-chat-stream-usage": (20, 4, 4),
    "04-chat-stream-utf8": (25, 24, 24),
    "13-chat-response-format": (36, 3, 3),
    "13-chat-tools-cut-later-stream": (614, 8, 2),
    "13-chat-tools-cut-stream": (614, 5, 0),
    "13-chat-tools-cut-stream-no-usage": (None, 0, 0),
    "13-chat-tools-no-tool-lengths-stream": (98, 30, 30),
    "13-chat-tools-no-tool-plain": (96, 11, 11),
    "13-chat-tools-no-tool-stream": (96, 11, 11),
    "13-chat-tools-plain": (622, 12, 12),
    "13-chat-tools-stream": (622, 12, 5),
    "14-long-1100-chat-stream": (27, 2048, 2048),
}
COMPLETIONS = {
    "05-completions-plain": (6, 4, 4),
    "05-completions-plain-eos": (13, 3, 3),
    "05-completions-plain-two-prompts": (18, 6, 6),
    "05-completions-stream": (6, 4, 4),
    "05-completions-stream-eos": (13, 3, 3),
    "05-completions-stream-include-usage": (6, 3, 3),
    "05-completions-stream-two-prompts": (18, 6, 6),
    "14-completions-stream-head-of-line": (24, 120, 120),
}
COUNTS = NATIVE | CHAT | COMPLETIONS

COUNTED_ELSEWHERE = {
    "01-generate-best-of",
    "03-stream-best-of",
    "03-stream-decoder-input-details",
    "13-chat-tools-cut-plain",
    "13-chat-tools-no-tool-lengths-plain",
    "14-invocations-chat-stream",
    "14-invocations-native",
    "14-long-1500-plain",
    "14-long-requeue",
    "14-vertex",
}


def test_no_recorded_reply_is_left_out() -> None:
    recorded = {case for prefix in ("01", "02", "03", "04", "05", "13", "14") for case in cases("tgi", f"{prefix}-*")}
    assert recorded == COUNTS.keys() | COUNTED_ELSEWHERE


@pytest.mark.parametrize("case", COUNTS)
def test_recorded_reply_is_counted_as_the_engine_did(case: str) -> None:
    usage = usage_of(exchange("tgi", case))
    assert (usage.prompt_tokens, usage.output_tokens, usage.counted_tokens) == COUNTS[case]
    assert usage.final == (usage.prompt_tokens is not None)
    assert usage.error is None
    assert usage.malformed_events == 0


@pytest.mark.parametrize("case", COUNTS)
def test_reply_without_anything_asked_by_the_proxy_passes_unchanged_however_it_is_cut(case: str) -> None:
    recorded = exchange("tgi", case)
    for seed in range(3):
        assert replay(recorded, recorded.call().meter(), cuts=random.Random(seed)) == recorded.reply


@pytest.mark.parametrize(
    "case", [case for case in COUNTS if "stream" in case and "tools" not in case and "ignored" not in case]
)
def test_a_stream_without_tools_is_exact_from_its_first_token(case: str) -> None:
    recorded = exchange("tgi", case)
    meter = recorded.call().meter()
    meter.head(recorded.status, recorded.headers)
    assert not meter.usage.exact
    meter.event(recorded.chunks[0])
    assert meter.usage.exact
    assert meter.usage.output_tokens == 1
    assert meter.is_first_token()
    meter.event(recorded.chunks[1])
    assert not meter.is_first_token()


def test_a_stream_with_tools_is_provisional_until_its_usage_comes() -> None:
    recorded = exchange("tgi", "13-chat-tools-stream")
    meter = recorded.call().meter()
    for chunk in recorded.chunks[:-2]:
        meter.event(chunk)
    assert (meter.usage.output_tokens, meter.usage.exact, meter.usage.final) == (5, False, False)
    meter.event(recorded.chunks[-2])
    assert (meter.usage.output_tokens, meter.usage.exact, meter.usage.final) == (12, True, True)
    assert not meter.is_first_token()


def test_the_plain_no_tool_reply_is_charged_for_both_of_its_generations() -> None:
    # 11 tokens that named no tool, then 30 of the answer: the engine made 41.
    usage = usage_of(exchange("tgi", "13-chat-tools-no-tool-lengths-plain"))
    assert (usage.prompt_tokens, usage.output_tokens, usage.final) == (98, 41, True)


def test_all_sequences_of_best_of_are_counted() -> None:
    usage = usage_of(exchange("tgi", "01-generate-best-of"))
    assert (usage.prompt_tokens, usage.output_tokens, usage.final, usage.exact) == (12, 4, True, True)


def test_the_other_sequences_of_best_of_are_provisional_until_the_details_are_read() -> None:
    recorded = exchange("tgi", "01-generate-best-of")
    meter = recorded.call().meter()
    meter.head(200, recorded.headers | {"x-generated-tokens": "7"})
    assert (meter.usage.output_tokens, meter.usage.final, meter.usage.exact) == (14, False, False)
    meter.body(recorded.reply)
    assert (meter.usage.output_tokens, meter.usage.final, meter.usage.exact) == (4, True, True)


def test_headers_count_a_plain_reply_whose_body_cannot_be_read() -> None:
    # The recording holds the beginning of the body only.
    recorded = exchange("tgi", "14-long-1500-plain")
    meter = recorded.call().meter()
    assert replay(recorded, meter) == recorded.reply
    assert (meter.usage.prompt_tokens, meter.usage.output_tokens, meter.usage.final) == (13, 2048, True)
    assert meter.usage.malformed_events == 1


@pytest.mark.parametrize(
    ("case", "prompt", "output"),
    [
        ("01-generate-details", None, 3),
        ("04-chat-plain", 20, 4),
        ("05-completions-plain-two-prompts", 18, 6),
    ],
)
def test_a_plain_reply_without_count_headers_is_counted_by_its_body(case: str, prompt: int | None, output: int) -> None:
    recorded = exchange("tgi", case)
    meter = recorded.call().meter()
    meter.head(200, {"content-type": "application/json"})
    meter.body(recorded.reply)
    assert (meter.usage.prompt_tokens, meter.usage.output_tokens, meter.usage.final) == (prompt, output, True)


def test_a_native_reply_that_tells_no_count_is_passed_on_uncounted() -> None:
    recorded = exchange("tgi", "01-generate-plain")
    meter = recorded.call().meter()
    meter.head(200, {})
    assert meter.body(recorded.reply) == recorded.reply
    assert (meter.usage.output_tokens, meter.usage.final, meter.usage.malformed_events) == (0, False, 1)


@pytest.mark.parametrize("value", ["", "x", "-1", "1.5", "9" * 30, "²"])
def test_count_headers_that_are_no_numbers_are_ignored(value: str) -> None:
    recorded = exchange("tgi", "04-chat-plain")
    meter = recorded.call().meter()
    meter.head(200, {"x-prompt-tokens": value, "x-generated-tokens": "4"})
    assert meter.usage.prompt_tokens is None
    assert meter.usage.output_tokens == 0


def test_requests_whose_pieces_queue_again_are_counted_on() -> None:
    outputs = [usage_of(each).output_tokens for each in exchanges("tgi", "14-long-requeue")]
    assert outputs == [2048, 1020, 900]


def test_the_prompts_of_two_are_told_only_when_both_have_ended() -> None:
    recorded = exchange("tgi", "05-completions-stream-two-prompts")
    meter = recorded.call().meter()
    for chunk in recorded.chunks[:5]:
        meter.event(chunk)
    assert (meter.usage.prompt_tokens, meter.usage.final, meter.usage.output_tokens) == (None, False, 5)
    meter.event(recorded.chunks[5])
    assert (meter.usage.prompt_tokens, meter.usage.final, meter.usage.output_tokens) == (18, True, 6)
