"""How SGLang reads a request, and so how it is measured."""

from typing import Any

import pytest

from engines.parsing import parse, sent


@pytest.mark.parametrize(
    ("body", "text_bytes", "tokens", "sequences"),
    [
        pytest.param({"text": "abc"}, 3, None, 1, id="text"),
        pytest.param({"text": ["abc", "é"]}, 5, None, 2, id="texts"),
        pytest.param({"input_ids": [1, 2, 3]}, 0, 3, 1, id="token ids"),
        pytest.param({"input_ids": [[1, 2], [3]], "text": None}, 0, 3, 2, id="lists of token ids"),
        pytest.param({"text": "abc", "sampling_params": {"n": 3}}, 9, None, 3, id="samples"),
        pytest.param({"text": ["a", "b"], "sampling_params": [{"n": 2}, {"n": 2}]}, 4, None, 4, id="for each prompt"),
        pytest.param({}, 0, None, 1, id="nothing"),
    ],
)
def test_native_prompts_are_measured(body: dict[str, Any], text_bytes: int, tokens: int | None, sequences: int) -> None:
    call = parse("SGLang", "/generate", body)
    assert (call.prompt_bytes, call.prompt_tokens, call.sequences) == (text_bytes, tokens, sequences)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (None, 128),
        ({}, 128),
        ({"max_new_tokens": 5}, 5),
        ({"max_new_tokens": None}, None),
        ([{"max_new_tokens": 5}, {"max_new_tokens": 9}], 9),
        ([{"max_new_tokens": 5}, {}], 128),
        ([{"max_new_tokens": 5}, {"max_new_tokens": None}], None),
        ("x", 128),
    ],
)
def test_native_output_limits_have_a_default(parameters: Any, expected: int | None) -> None:
    assert parse("SGLang", "/generate", {"text": "x", "sampling_params": parameters}).max_tokens == expected


@pytest.mark.parametrize(("media", "parts"), [("url", 1), (["a", "b"], 2), (None, 0)])
def test_native_media_are_counted(media: Any, parts: int) -> None:
    call = parse("SGLang", "/generate", {"input_ids": [1, 2], "image_data": media})
    assert (call.media_parts, call.prompt_tokens) == (parts, None if parts else 2)


def test_a_native_request_cannot_be_made_to_go_on_in_the_background() -> None:
    assert sent("SGLang", "/generate", {"text": "x", "background": True, "log_metrics": False}) == {"text": "x"}


@pytest.mark.parametrize(("stream", "expected"), [(True, True), ("true", True), (0, False), (None, False)])
def test_the_native_stream_field_is_read_leniently(stream: Any, expected: bool) -> None:
    assert parse("SGLang", "/generate", {"text": "x", "stream": stream}).stream is expected


def test_token_ids_of_a_chat_stand_in_for_its_messages() -> None:
    body = {"messages": [{"role": "user", "content": "hello"}], "input_ids": [1, 2, 3]}
    call = parse("SGLang", "/v1/chat/completions", body)
    assert (call.prompt_tokens, call.prompt_bytes) == (3, 0)
    call = parse("SGLang", "/v1/chat/completions", {**body, "input_ids": None})
    assert (call.prompt_tokens, call.prompt_bytes) == (None, 5)


def test_completions_have_a_default_limit() -> None:
    assert parse("SGLang", "/v1/completions", {"prompt": "x"}).max_tokens == 16
    assert parse("SGLang", "/v1/chat/completions", {"messages": []}).max_tokens is None
