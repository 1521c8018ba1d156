"""Recorded replies of a real vLLM server, replayed: what is counted is what the engine did."""

import json
import random

import pytest

from fairqueue_proxy.metering import ErrorKind, EventSplitter
from metering.recorded import Exchange, cases, exchange, exchanges, replay, usage_of

# prompt, output and streamed tokens as the recordings show them. A stream whose client asked for no usage was recorded
# without what the proxy adds, so its chunks are counted.
COUNTS = {
    "01-chat-plain": (11, 8, 8),
    "01-chat-plain-logprobs": (11, 3, 3),
    "01-chat-plain-max1": (11, 1, 1),
    "01-chat-plain-n2": (22, 16, 16),
    "01-chat-plain-stop": (11, 5, 5),
    "01-chat-stream": (None, 6, 6),
    "01-chat-stream-continuous-usage": (11, 8, 8),
    "01-chat-stream-continuous-usage-only": (None, 6, 6),
    "01-chat-stream-echo": (13, 8, 8),
    "01-chat-stream-forced-usage": (11, 3, 3),
    "01-chat-stream-forced-usage-false": (11, 3, 3),
    "01-chat-stream-logprobs": (None, 2, 2),
    "01-chat-stream-max1": (11, 1, 1),
    "01-chat-stream-n2": (22, 16, 16),
    "01-chat-stream-stop": (11, 5, 5),
    "01-chat-stream-stop-included": (11, 5, 5),
    "01-chat-stream-token-ids": (11, 8, 8),
    "01-chat-stream-usage": (11, 8, 6),
    "01-chat-stream-usage-false": (None, 6, 6),
    "02-completions-plain": (2, 8, 8),
    "02-completions-plain-beam": (6, 24, 24),
    "02-completions-plain-best-of": (2, 8, 8),
    "02-completions-plain-echo": (2, 1, 1),
    "02-completions-plain-logprobs": (2, 3, 3),
    "02-completions-plain-n2": (4, 16, 16),
    "02-completions-plain-prompt-logprobs": (2, 2, 2),
    "02-completions-plain-six-prompts": (6, 18, 18),
    "02-completions-plain-token-prompt": (3, 8, 8),
    "02-completions-plain-two-prompts": (4, 16, 16),
    "02-completions-stream": (None, 8, 8),
    "02-completions-stream-continuous-usage": (2, 8, 8),
    "02-completions-stream-default-max": (1, 16, 16),
    "02-completions-stream-echo": (2, 8, 8),
    "02-completions-stream-logprobs": (None, 3, 3),
    "02-completions-stream-max1": (2, 1, 1),
    "02-completions-stream-n2": (4, 16, 16),
    "02-completions-stream-two-prompts": (4, 16, 16),
    "02-completions-stream-two-prompts-n2": (8, 12, 10),
    "02-completions-stream-usage": (2, 8, 8),
    "03-interval4-chat-stream": (11, 30, 30),
    "03-interval4-chat-stream-logprobs": (11, 12, 4),
    "03-interval4-chat-stream-no-usage": (None, 9, 9),
    "03-interval4-completions-stream": (2, 30, 30),
    "03-interval4-messages-stream": (11, 20, 6),
    "03-interval4-responses-stream": (6, 20, 5),
    "03-ngram-chat-stream": (11, 30, 30),
    "03-ngram-chat-stream-logprobs": (11, 12, 9),
    "03-ngram-chat-stream-no-usage": (None, 17, 17),
    "03-ngram-completions-stream": (2, 30, 30),
    "03-ngram-messages-stream": (11, 20, 12),
    "03-ngram-responses-stream": (6, 20, 14),
    "04-chat-batch": (22, 8, 8),
    "04-generative-scoring": (16, 2, 2),
    "04-invocations-chat-stream": (11, 3, 2),
    "04-messages-plain": (11, 8, 8),
    "04-messages-stream": (11, 8, 6),
    "04-responses-no-max": (6, 2042, 2042),
    "04-responses-plain": (6, 8, 8),
    "04-responses-stream": (6, 8, 5),
    "11-chat-plain-tool-named": (11, 51, 51),
    "11-chat-plain-tool-required": (11, 51, 51),
    "11-chat-plain-tool-required-cut": (11, 9, 9),
    "11-chat-stream-json": (11, 60, 60),
    "11-chat-stream-tool-auto": (11, 12, 12),
    "11-chat-stream-tool-named": (11, 51, 51),
    "11-chat-stream-tool-required": (11, 51, 51),
    "11-chat-stream-tool-required-cut": (11, 9, 9),
    "11-messages-stream-tool": (11, 51, 2),
}

# Refused, or of routes that are not metered.
NOT_COUNTED = {
    "01-chat-stream-tool-auto",
    "01-chat-stream-tool-named",
    "04-embeddings-not-served",
    "04-messages-count-tokens",
    "04-messages-stream-tool",
    "04-responses-background",
    "11-chat-render",
}

# The server was told to send usage whatever the client asks; it is taken out all the same.
FORCED = {"01-chat-stream-forced-usage", "01-chat-stream-forced-usage-false"}

# Their clients asked for a running count.
LIVE = [case for case in COUNTS if b'"continuous_usage_stats": true' in exchange("vllm", case).request]
LIVE.remove("01-chat-stream-continuous-usage-only")


def test_no_recorded_reply_is_left_out() -> None:
    recorded = {case for prefix in ("01", "02", "03", "04", "11") for case in cases("vllm", f"{prefix}-*")}
    assert recorded == COUNTS.keys() | NOT_COUNTED


@pytest.mark.parametrize("case", COUNTS)
def test_recorded_reply_is_counted_as_the_engine_did(case: str) -> None:
    usage = usage_of(exchange("vllm", case))
    assert (usage.prompt_tokens, usage.output_tokens, usage.counted_tokens) == COUNTS[case]
    assert usage.final == usage.exact == (usage.prompt_tokens is not None)
    assert usage.error is None
    assert usage.malformed_events == 0


@pytest.mark.parametrize("case", sorted(COUNTS.keys() - FORCED))
def test_reply_without_anything_asked_by_the_proxy_passes_unchanged_however_it_is_cut(case: str) -> None:
    recorded = exchange("vllm", case)
    for seed in range(3):
        assert replay(recorded, recorded.call().meter(), cuts=random.Random(seed)) == recorded.reply


@pytest.mark.parametrize("case", sorted(FORCED))
def test_usage_that_the_server_was_told_to_force_is_taken_out(case: str) -> None:
    recorded = exchange("vllm", case)
    passed_on = replay(recorded, recorded.call().meter())
    assert b"usage" not in passed_on
    assert passed_on.count(b'"system_fingerprint"') == 1
    assert passed_on.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("case", LIVE)
def test_a_stream_is_counted_by_the_running_usage_of_each_choice(case: str) -> None:
    recorded = exchange("vllm", case)
    meter = recorded.call().meter()
    totals: dict[int, int] = {}
    for event in EventSplitter().feed(recorded.reply):
        meter.event(event)
        data = event.removeprefix(b"data: ")
        chunk = {} if data.startswith(b"[") else json.loads(data)
        for choice in chunk.get("choices", []):
            totals[choice["index"]] = chunk["usage"]["completion_tokens"]
        assert meter.usage.counted_tokens == sum(totals.values())
        assert meter.usage.exact


def test_tokens_of_a_forced_tool_that_come_in_no_chunk_are_charged() -> None:
    recorded = exchange("vllm", "11-chat-stream-tool-required-cut")
    meter = recorded.call().meter()
    firsts = []
    for event in EventSplitter().feed(recorded.reply):
        meter.event(event)
        firsts.append(meter.is_first_token())
    assert (meter.usage.output_tokens, firsts.index(True)) == (9, 1)


def test_the_prompt_is_known_from_the_first_chunk_of_a_chat() -> None:
    recorded = exchange("vllm", "01-chat-stream-continuous-usage")
    meter = recorded.call().meter()
    meter.event(recorded.chunks[0])
    assert (meter.usage.prompt_tokens, meter.usage.output_tokens, meter.is_first_token()) == (11, 0, False)


def test_a_full_engine_is_an_overload_in_every_shape() -> None:
    full = [
        each
        for case in ("07-overload-queue-limit", "07-overload-queue-limit-prompts")
        for each in exchanges("vllm", case)
        if b"currently busy" in each.reply
    ]
    assert {each.path for each in full} >= {"/v1/chat/completions", "/v1/completions", "/v1/responses"}
    assert {each.status for each in full} == {200, 503}
    for each in full:
        usage = usage_of(each)
        assert usage.error is not None
        assert usage.error.kind is ErrorKind.OVERLOADED
        assert usage.output_tokens == 0


def test_an_engine_that_dies_fails_what_it_had_begun() -> None:
    for each in exchanges("vllm", "06-error-engine-dies"):
        usage = usage_of(each)
        if each.path == "/v1/responses" and each.is_stream:
            # It just ends; the broken connection tells.
            assert (usage.error, usage.final) == (None, False)
        else:
            assert usage.error is not None
            assert usage.error.kind is ErrorKind.FAILED
            assert not usage.final


def _refused(case: str) -> list[Exchange]:
    return [each for each in exchanges("vllm", case) if 400 <= each.status < 500 and each.request.startswith(b"{")]


@pytest.mark.parametrize("case", ["06-errors-chat", "06-errors-chat-more", "06-errors-others"])
def test_every_recorded_refusal_is_a_refusal(case: str) -> None:
    found = 0
    for each in _refused(case):
        if not each.path.endswith("completions"):
            continue
        meter = exchange("vllm", "01-chat-plain").call().meter()
        meter.head(each.status, each.headers)
        assert meter.body(each.reply) == each.reply
        assert meter.usage.error is not None
        assert meter.usage.error.kind is ErrorKind.REFUSED
        found += 1
    assert found > 5
