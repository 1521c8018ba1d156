"""`/v1/responses`: what it leaves behind belongs to nobody, so nothing is left behind."""

from typing import Any

import pytest

from engines.parsing import parse, sent
from fairqueue_proxy.engines import BadBody

KINDS = ["VLLM", "SGLang", "LlamaCpp", "OpenAI"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"background": True}, "must not outlive its client"),
        ({"background": "true"}, "must not outlive its client"),
        ({"previous_response_id": "resp_1"}, "previous_response_id is not allowed"),
        ({"conversation": {"id": "conv_1"}}, "conversation is not allowed"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "item_reference"),
    ],
)
def test_what_outlives_a_request_or_reads_what_others_stored_is_refused(
    kind: str, body: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadBody, match=message):
        parse(kind, "/v1/responses", {"input": "x", **body})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "body", [{"background": False}, {"background": None, "previous_response_id": None}, {"input": [5, {"type": 5}]}]
)
def test_what_asks_for_nothing_of_that_passes(kind: str, body: dict[str, Any]) -> None:
    received = sent(kind, "/v1/responses", {"input": "x", **body})
    received.pop("store", None)
    assert received == {"input": "x", **body}


@pytest.mark.parametrize("kind", ["VLLM", "SGLang", "OpenAI"])
@pytest.mark.parametrize("store", [{}, {"store": True}, {"store": None}, {"store": "yes"}])
def test_an_engine_that_stores_responses_is_told_not_to(kind: str, store: dict[str, Any]) -> None:
    assert sent(kind, "/v1/responses", {"input": "x", **store}) == {"input": "x", "store": False}


def test_an_engine_that_stores_nothing_is_told_nothing() -> None:
    assert sent("LlamaCpp", "/v1/responses", {"input": "x"}) == {"input": "x"}


def test_llamacpp_is_asked_for_timings_of_a_stream() -> None:
    assert sent("LlamaCpp", "/responses", {"input": "x", "stream": True})["timings_per_token"] is True


@pytest.mark.parametrize(
    ("body", "expected"),
    [({"max_output_tokens": 5}, 5), ({"max_tokens": 5}, 5), ({"n_predict": -1}, None), ({}, None)],
)
def test_llamacpp_has_several_names_for_the_limit(body: dict[str, Any], expected: int | None) -> None:
    assert parse("LlamaCpp", "/v1/responses", {"input": "x", **body}).max_tokens == expected


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_is_a_stream(kind: str, stream: bool) -> None:
    assert parse(kind, "/v1/responses", {"input": "x", "stream": stream}).stream is stream
    assert parse(kind, "/v1/messages", {"messages": [], "stream": stream}).stream is stream
