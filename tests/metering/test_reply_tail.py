"""Plain replies too long to be held are counted by the usage at their end."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_proxy.metering import (
    InputOnlyMeter,
    LlamaNativeMeter,
    LlamaOpenAiMeter,
    Meter,
    OpenAiMeter,
    ResponsesMeter,
    TgiChatMeter,
    VllmMeter,
)
from metering.recorded import exchange

CHAT = {"prompt_tokens": 7, "total_tokens": 12, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 2}}


def _tail(usage: Any, text: str = "") -> bytes:
    return json.dumps({"choices": [{"text": text}], "usage": usage, "system_fingerprint": "x"}).encode()[12:]


def test_the_usage_of_a_chat_settles_it() -> None:
    meter = OpenAiMeter(sequences=2, copies=2)
    meter.head(200, {})
    meter.tail(_tail(CHAT))
    usage = meter.usage
    assert (usage.prompt_tokens, usage.cached_tokens, usage.output_tokens, usage.counted_tokens) == (14, 4, 5, 5)
    assert usage.final


def test_embeddings_have_no_output() -> None:
    meter = InputOnlyMeter()
    meter.tail(_tail({"prompt_tokens": 7, "total_tokens": 7}))
    assert (meter.usage.prompt_tokens, meter.usage.output_tokens, meter.usage.final) == (7, 0, True)


@pytest.mark.parametrize(
    ("meter", "folder", "case", "counts"),
    [
        (VllmMeter(), "vllm", "01-chat-plain", (11, 8)),
        (ResponsesMeter(), "vllm", "04-responses-no-max", (6, 2042)),
        (ResponsesMeter(), "llamacpp", "04-responses-plain", (37, 8)),
        (LlamaOpenAiMeter(), "llamacpp", "01-chat-plain", (41, 12)),
        (LlamaNativeMeter(), "llamacpp", "03-native-plain", (5, 8)),
    ],
)
def test_recorded_replies_have_it_at_their_end(meter: Meter, folder: str, case: str, counts: tuple[int, int]) -> None:
    meter.tail(exchange(folder, case).reply[-1000:])
    assert (meter.usage.prompt_tokens, meter.usage.output_tokens) == counts


@pytest.mark.parametrize(
    "tail",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(_tail(None), id="null"),
        pytest.param(_tail({"prompt_tokens": 7}), id="no output"),
        pytest.param(_tail(CHAT)[:60], id="cut"),
        pytest.param(b'"usage":{"prompt_tokens":-1}', id="nonsense"),
        pytest.param(_tail(None, text='"usage":{"prompt_tokens":1,"completion_tokens":1}'), id="written by the model"),
    ],
)
def test_without_usage_nothing_is_settled(tail: bytes) -> None:
    meter = OpenAiMeter()
    meter.tail(tail)
    usage = meter.usage
    assert (usage.prompt_tokens, usage.output_tokens, usage.final, usage.malformed_events) == (None, 0, False, 1)


@pytest.mark.parametrize("meter", [LlamaOpenAiMeter(copies=2), LlamaNativeMeter(2)])
def test_llamacpp_tells_it_of_one_choice_only(meter: Meter) -> None:
    meter.tail(_tail(CHAT) + b'"timings":{"predicted_n":1,"prompt_n":1}}')
    assert not meter.usage.final


def test_what_the_headers_told_stands() -> None:
    meter = TgiChatMeter()
    meter.head(200, {"x-prompt-tokens": "9", "x-generated-tokens": "4"})
    meter.tail(_tail(CHAT))
    assert (meter.usage.prompt_tokens, meter.usage.output_tokens) == (9, 4)


def test_the_end_of_an_error_is_not_looked_at() -> None:
    meter = OpenAiMeter()
    meter.head(500, {})
    meter.tail(_tail(CHAT))
    assert (meter.usage.output_tokens, meter.usage.malformed_events) == (0, 0)


@given(tail=st.binary(max_size=80).map(lambda data: b'"usage":{' + data))
def test_no_bytes_raise(tail: bytes) -> None:
    OpenAiMeter().tail(tail)
