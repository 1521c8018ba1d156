"""Unlisted routes of an OpenAI-compatible engine: other bodies than JSON pass, measured by their bytes."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.parsing import parse, sent
from fairqueue_proxy.engines import BadBody, engine_for

PATH = "/v1/audio/speech"


@given(body=st.binary(max_size=200))
def test_a_body_that_is_no_json_object_passes_as_it_is_unless_an_engine_might_read_it_as_one(body: bytes) -> None:
    try:
        call = parse("OpenAI", PATH, body)
    except BadBody:
        assert b"{" in body or b"[" in body
        return
    if call.media_parts:
        assert call.body == body
        assert (call.prompt_bytes, call.sequences, call.stream) == (0, 1, False)


def test_a_json_object_is_measured_by_its_bytes_and_cannot_steer() -> None:
    call = parse("OpenAI", PATH, b'{"input":"hello","priority":1}')
    assert call.body == b'{"input":"hello"}'
    assert (call.prompt_bytes, call.media_parts) == (17, 0)


@pytest.mark.parametrize(
    ("body", "max_tokens", "sequences"),
    [
        ({"max_tokens": 5, "n": 2}, 5, 2),
        ({"max_output_tokens": "7", "max_tokens": 5}, 7, 1),
        ({}, None, 1),
    ],
)
def test_usual_fields_are_believed(body: dict[str, Any], max_tokens: int | None, sequences: int) -> None:
    call = parse("OpenAI", PATH, body)
    assert (call.max_tokens, call.sequences) == (max_tokens, sequences)
    assert sent("OpenAI", PATH, body) == body


def test_llamacpp_is_asked_for_counts_that_a_client_did_not_select() -> None:
    received = sent("LlamaCpp", "/completion", {"prompt": "x", "response_fields": ["content", "stop"]})
    assert received["response_fields"] == [
        "content",
        "stop",
        "index",
        "tokens_predicted",
        "tokens_evaluated",
        "timings",
    ]
    for fields in ([], None, "content", [5]):
        body = {"prompt": "x", "response_fields": fields}
        assert sent("LlamaCpp", "/completion", body) == body


def test_what_infill_puts_around_the_prompt_counts() -> None:
    body = {"prompt": "ab", "input_prefix": "cde", "input_suffix": "f", "input_extra": [{"text": "x"}]}
    assert parse("LlamaCpp", "/infill", body).prompt_bytes == 2 + 3 + 1 + len('[{"text": "x"}]')


KINDS = ["TGI", "VLLM", "SGLang", "LlamaCpp", "OpenAI"]


@pytest.mark.parametrize("kind", KINDS)
@given(body=st.binary(max_size=60) | st.binary(max_size=60).map(lambda data: b'{"input":[' + data + b"]}"))
def test_no_bytes_raise_more_than_a_bad_body(kind: str, body: bytes) -> None:
    for path in sorted(engine_for(kind).metered_paths):
        with contextlib.suppress(BadBody):
            parse(kind, path, body)
