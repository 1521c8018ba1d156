"""Recorded replies of a real llama.cpp server, replayed: what is counted is what the engine did."""

import json
import random

import pytest

from fairqueue_proxy.metering import LlamaNativeMeter, LlamaOpenAiMeter, Usage
from metering.recorded import Exchange, cases, exchange, replay, usage_of

# prompt, cached and output tokens as the recordings show them.
COUNTS = {
    "01-chat-plain": (41, 40, 12),
    "01-chat-plain-logprobs": (41, 40, 4),
    "01-chat-plain-max1": (41, 40, 1),
    "01-chat-plain-n2": (82, 80, 24),
    "01-chat-plain-timings": (41, 40, 12),
    "01-chat-plain-tool-required": (41, 40, 80),
    "01-chat-plain-tool-required-cut": (41, 40, 8),
    "01-chat-stream": (41, 0, 12),
    "01-chat-stream-continuous-usage": (41, 40, 12),
    "01-chat-stream-emoji": (48, 24, 24),
    "01-chat-stream-eos": (33, 24, 25),
    "01-chat-stream-grammar-emoji": (41, 40, 14),
    "01-chat-stream-logprobs": (41, 40, 4),
    "01-chat-stream-max1": (41, 40, 1),
    "01-chat-stream-n2": (82, 80, 24),
    "01-chat-stream-progress": (41, 40, 12),
    "01-chat-stream-stop": (41, 40, 12),
    "01-chat-stream-timings": (41, 40, 12),
    "01-chat-stream-timings-usage": (41, 40, 12),
    "01-chat-stream-tool-named": (41, 40, 80),
    "01-chat-stream-tool-required": (41, 0, 80),
    "01-chat-stream-tool-required-cut": (41, 40, 8),
    "01-chat-stream-usage": (41, 40, 12),
    "01-chat-stream-usage-false": (41, 40, 12),
    "02-completions-plain": (5, 4, 12),
    "02-completions-plain-best-of": (5, 4, 12),
    "02-completions-plain-echo": (5, 4, 12),
    "02-completions-plain-logprobs": (5, 4, 4),
    "02-completions-plain-n2": (10, 8, 24),
    "02-completions-plain-token-prompt": (5, 4, 12),
    "02-completions-stream": (5, 0, 12),
    "02-completions-stream-logprobs": (5, 4, 4),
    "02-completions-stream-max1": (5, 4, 1),
    "02-completions-stream-n2": (10, 8, 24),
    "02-completions-stream-stop": (5, 4, 1),
    "02-completions-stream-timings": (5, 4, 12),
    "02-completions-stream-two-prompts": (10, 8, 24),
    "02-completions-stream-usage": (5, 4, 12),
    "03-native-plain": (5, 4, 8),
    "03-native-stream": (5, 4, 8),
    "03-native-stream-tokens": (5, 4, 6),
    "03-native-stream-two-prompts": (10, 8, 8),
}
FIRST_CHOICE_ONLY = {"02-completions-plain-two-prompts", "02-completions-plain-four-prompts"}

# A chunk with held-back text carries timings unasked and loses them: see LlamaOpenAiMeter.
LOSES_TIMINGS = "02-completions-stream-stop"

# Chunks in the middle are left out of these recordings, or their clients asked for no timings.
LIVE = [
    "01-chat-stream-emoji",
    "01-chat-stream-grammar-emoji",
    "01-chat-stream-timings",
    "02-completions-stream-n2",
    "02-completions-stream-two-prompts",
    "03-native-stream-two-prompts",
]


def test_no_recorded_reply_is_left_out() -> None:
    recorded = {case for prefix in ("01", "02", "03") for case in cases("llamacpp", f"{prefix}-*")}
    assert recorded == COUNTS.keys() | FIRST_CHOICE_ONLY | {"03-infill"}


@pytest.mark.parametrize("case", COUNTS)
def test_recorded_reply_is_counted_as_the_engine_did(case: str) -> None:
    usage = usage_of(exchange("llamacpp", case))
    assert (usage.prompt_tokens, usage.cached_tokens, usage.output_tokens) == COUNTS[case]
    assert usage.final
    assert usage.exact
    assert usage.error is None
    assert usage.malformed_events == 0


@pytest.mark.parametrize("case", [case for case in COUNTS if case != LOSES_TIMINGS])
def test_reply_without_anything_asked_by_the_proxy_passes_unchanged_however_it_is_cut(case: str) -> None:
    recorded = exchange("llamacpp", case)
    for seed in range(3):
        assert replay(recorded, recorded.call().meter(), cuts=random.Random(seed)) == recorded.reply


@pytest.mark.parametrize("case", LIVE)
def test_a_stream_is_counted_by_the_engines_running_total(case: str) -> None:
    recorded = exchange("llamacpp", case)
    meter = recorded.call().meter()
    totals: dict[int, int] = {}
    for event in _events(recorded):
        meter.event(event)
        for index, total in _running_totals(event):
            totals[index] = max(totals.get(index, 0), total)
            assert meter.usage.exact
        assert meter.usage.counted_tokens == sum(totals.values())


def test_tokens_without_text_of_their_own_are_settled_at_the_end() -> None:
    # The end-of-sequence token is in no chunk.
    usage = usage_of(exchange("llamacpp", "01-chat-stream-eos"))
    assert (usage.counted_tokens, usage.output_tokens) == (24, 25)


def test_chunks_without_a_token_do_not_count_as_the_first() -> None:
    recorded = exchange("llamacpp", "01-chat-stream-progress")
    meter = recorded.call().meter()
    firsts = [bool(meter.event(event)) and meter.is_first_token() for event in _events(recorded)]
    # Two progress chunks and one with the role come before the first token.
    assert firsts.index(True) == 3
    assert firsts.count(True) == 1


@pytest.mark.parametrize(("case", "output"), [("four", 16), ("two", 24)])
def test_a_plain_list_of_prompts_is_provisional_because_only_its_first_is_told(case: str, output: int) -> None:
    usage = usage_of(exchange("llamacpp", f"02-completions-plain-{case}-prompts"))
    assert (usage.output_tokens, usage.prompt_tokens) == (output, None)
    assert not usage.exact
    assert not usage.final


def _plain_choices(max_tokens: int | None, *texts: tuple[str, str]) -> Usage:
    choices = [{"index": index, "text": text, "finish_reason": reason} for index, (text, reason) in enumerate(texts)]
    usage = {"completion_tokens": 4, "prompt_tokens": 5, "total_tokens": 9}
    meter = LlamaOpenAiMeter(copies=len(texts), max_tokens=max_tokens)
    meter.head(200, {})
    meter.body(json.dumps({"choices": choices, "usage": usage}).encode())
    return meter.usage


@pytest.mark.parametrize(
    ("max_tokens", "second", "output", "exact"),
    [
        pytest.param(4, ("12345678", "length"), 8, True, id="both ran into the same limit"),
        pytest.param(None, ("12345678", "length"), 8, True, id="both ran into the end of the context"),
        pytest.param(None, ("12", "stop"), 5, False, id="shorter text, fewer tokens"),
        pytest.param(None, ("", "stop"), 5, False, id="no text is at least the end token"),
        pytest.param(4, ("1" * 80, "stop"), 8, False, id="never above the limit"),
    ],
)
def test_the_second_choice_of_a_plain_reply_is_estimated_where_it_cannot_be_known(
    max_tokens: int | None, second: tuple[str, str], output: int, exact: bool
) -> None:
    usage = _plain_choices(max_tokens, ("12345678", "length"), second)
    assert (usage.output_tokens, usage.exact, usage.final) == (output, exact, exact)
    assert usage.prompt_tokens == 10


def test_a_choice_that_ran_into_the_limit_beside_one_that_did_not_has_the_limits_tokens() -> None:
    usage = _plain_choices(6, ("12345678", "stop"), ("12", "length"))
    assert (usage.output_tokens, usage.final) == (10, False)


def test_a_native_list_of_prompts_is_counted_over_all_its_results() -> None:
    result = json.loads(exchange("llamacpp", "03-native-plain").reply)
    meter = LlamaNativeMeter(2)
    meter.head(200, {})
    meter.body(json.dumps([result, result]).encode())
    assert (meter.usage.prompt_tokens, meter.usage.cached_tokens, meter.usage.output_tokens) == (10, 8, 16)


def test_the_context_running_full_is_an_ordinary_end() -> None:
    recorded = exchange("llamacpp", "06-error-context-full")
    usage = usage_of(recorded, b'{"stream":true}')
    assert (usage.prompt_tokens, usage.output_tokens, usage.final) == (1997, 51, True)
    assert usage.error is None


def _events(recorded: Exchange) -> list[bytes]:
    return [event + b"\n\n" for event in recorded.reply.split(b"\n\n")[:-1]]


def _running_totals(event: bytes) -> list[tuple[int, int]]:
    try:
        chunk = json.loads(event.removeprefix(b"data: "))
    except ValueError:
        return []
    if chunk is None:
        return []
    if "tokens_predicted" in chunk:
        return [(chunk["index"], chunk["tokens_predicted"])]
    if "timings" not in chunk or not chunk["choices"] or chunk["choices"][0]["finish_reason"] is not None:
        return []
    return [(chunk["choices"][0]["index"], chunk["timings"]["predicted_n"])]
