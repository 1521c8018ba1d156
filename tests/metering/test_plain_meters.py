"""Routes with input and no output, routes of which nothing is known, and the one that tells no counts."""

import json
from typing import Any

import pytest

from fairqueue_proxy.metering import ErrorKind, InputOnlyMeter, Meter, OtherMeter, TgiVertexMeter, Usage
from metering.recorded import exchange, usage_of
from metering.stand_ins import DONE, event


def _plain(meter: Meter, body: Any) -> Usage:
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    meter.head(200, {"content-type": "application/json"})
    assert meter.body(encoded) == encoded
    return meter.usage


@pytest.mark.parametrize(
    ("body", "prompt", "output"),
    [
        pytest.param({"usage": {"prompt_tokens": 7, "total_tokens": 7}}, 7, 0, id="embeddings"),
        pytest.param({"usage": {"prompt_tokens": 16, "completion_tokens": 2}}, 16, 2, id="generative scores"),
        pytest.param({"usage": {"total_tokens": 7}}, None, 0, id="a total only"),
        pytest.param([{"index": 0, "embedding": [[1.5]]}], None, 0, id="a bare list"),
        pytest.param({"results": []}, None, 0, id="no usage"),
    ],
)
def test_what_has_no_output_is_charged_its_input(body: Any, prompt: int | None, output: int) -> None:
    usage = _plain(InputOnlyMeter(), body)
    assert (usage.prompt_tokens, usage.output_tokens, usage.final) == (prompt, output, True)
    assert usage.malformed_events == 0


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"usage":{"prompt_tokens":-1}}', b"[1"])
def test_what_is_no_such_reply_is_passed_on_uncounted(body: bytes) -> None:
    usage = _plain(InputOnlyMeter(), body)
    assert (usage.prompt_tokens, usage.malformed_events, usage.final) == (None, 1, False)


@pytest.mark.parametrize("case", ["04-embeddings-not-served", "04-rerank-not-served", "03-infill"])
def test_what_the_model_cannot_do_is_a_refusal(case: str) -> None:
    usage = usage_of(exchange("llamacpp", case))
    assert usage.error is not None
    assert usage.error.kind is ErrorKind.REFUSED


@pytest.mark.parametrize(
    ("body", "prompt", "output"),
    [
        ({"usage": {"prompt_tokens": 7, "completion_tokens": 5}}, 7, 5),
        ({"usage": {"input_tokens": 7, "output_tokens": 5}}, 7, 5),
        ({"usage": {"input_tokens": 7}}, 7, 0),
        ({"text": "no usage"}, None, 0),
        (b"\x00\x01 an image", None, 0),
        ({"usage": 5}, None, 0),
    ],
)
def test_usage_is_believed_wherever_it_is_found(body: Any, prompt: int | None, output: int) -> None:
    usage = _plain(OtherMeter(), body)
    assert (usage.prompt_tokens, usage.output_tokens, usage.malformed_events) == (prompt, output, 0)


def test_events_of_an_unknown_stream_count_one_each_until_usage_comes() -> None:
    meter = OtherMeter()
    for value in (
        {"delta": "a"},
        ["b"],
        {"type": "done", "response": {"usage": {"input_tokens": 7, "output_tokens": 9}}},
    ):
        assert meter.event(event(value)) == event(value)
    assert meter.usage.counted_tokens == 2
    assert (meter.usage.prompt_tokens, meter.usage.output_tokens, meter.usage.final) == (7, 9, True)


def test_an_error_in_an_unknown_stream_is_an_error() -> None:
    meter = OtherMeter()
    meter.event(event({"error": {"message": "busy", "code": 503}}))
    assert meter.usage.error is not None
    assert meter.usage.error.kind is ErrorKind.OVERLOADED
    assert meter.event(DONE) == DONE


@pytest.mark.parametrize(
    ("predictions", "max_tokens", "output"),
    [(["word " * 4], None, 5), (["a", ""], None, 2), (["a" * 400], 10, 10), (["é" * 4], None, 2), ([], None, 0)],
)
def test_predictions_are_estimated_by_their_length(predictions: list[str], max_tokens: int | None, output: int) -> None:
    usage = _plain(TgiVertexMeter(max_tokens=max_tokens), {"predictions": predictions})
    assert (usage.output_tokens, usage.exact, usage.final) == (output, False, False)


@pytest.mark.parametrize("case", ["07-overload-vertex", "08-error-first-vertex", "08-error-mid-vertex"])
def test_vertex_says_the_same_of_every_failure(case: str) -> None:
    usage = usage_of(exchange("tgi", case))
    assert usage.error is not None
    assert usage.error.kind is ErrorKind.FAILED
