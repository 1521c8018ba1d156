"""Errors of engines, in every shape they come in, are told apart: full, refused, failed."""

import json

import pytest

from fairqueue_proxy.metering import (
    EngineError,
    ErrorKind,
    LlamaNativeMeter,
    LlamaOpenAiMeter,
    Meter,
    OpenAiMeter,
    TgiChatMeter,
    TgiCompletionsMeter,
    TgiNativeMeter,
    Usage,
)
from metering.recorded import Exchange, cases, exchange, exchanges, replay, usage_of


def _usage(recorded: Exchange) -> Usage:
    """The usage of a reply whose request may be no JSON, or be shortened in the recording."""
    try:
        return usage_of(recorded)
    except ValueError:
        return usage_of(recorded, b"{}")


def _errors(engine: str, case: str) -> list[tuple[Exchange, Usage]]:
    replies = [(each, _usage(each)) for each in exchanges(engine, case) if _is_known(each)]
    return [(each, usage) for each, usage in replies if each.status >= 400 or b'{"error"' in each.reply]


def _is_known(recorded: Exchange) -> bool:
    listed = {"/", "/generate", "/generate_stream", "/completion", "/v1/completions", "/v1/chat/completions", "/vertex"}
    return recorded.path in listed


@pytest.mark.parametrize("case", [case for case in cases("tgi", "06-*") if not case.endswith("others")])
def test_every_recorded_refusal_of_tgi_is_a_refusal(case: str) -> None:
    errors = _errors("tgi", case)
    assert errors
    for recorded, usage in errors:
        assert usage.error is not None
        if usage.output_tokens:
            # One empty prompt of two: the other one was served.
            assert usage.error.kind is ErrorKind.FAILED
            assert b'["What is deep learning?", ""]' in recorded.request
        else:
            assert usage.error.kind is ErrorKind.REFUSED, recorded.request
        assert usage.error.message


# /vertex says of everything that the generation failed.
NO_OVERLOAD = {"07-overload-other-routes", "07-overload-vertex"}


@pytest.mark.parametrize("case", [case for case in cases("tgi", "07-*") if case not in NO_OVERLOAD])
def test_every_recorded_overload_of_tgi_is_an_overload(case: str) -> None:
    errors = _errors("tgi", case)
    assert errors
    for recorded, usage in errors:
        assert usage.error is not None
        assert usage.error.message == "Model is overloaded"
        # In the stream of three prompts two were served.
        served = usage.output_tokens > 0
        assert served == (recorded.is_stream and case.endswith("three-prompts"))
        assert usage.error.kind is (ErrorKind.FAILED if served else ErrorKind.OVERLOADED)


@pytest.mark.parametrize("case", cases("tgi", "08-*"))
def test_every_recorded_failure_of_tgi_is_a_failure(case: str) -> None:
    errors = _errors("tgi", case)
    assert errors
    for _, usage in errors:
        assert usage.error is not None
        assert usage.error.kind is ErrorKind.FAILED
        assert not usage.final
        assert usage.malformed_events == 0


@pytest.mark.parametrize(
    ("case", "output"),
    [("generate-stream", 3), ("root-stream", 3), ("chat-stream", 3), ("completions-stream", 3), ("generate", 0)],
)
def test_tokens_before_a_failure_stay_counted(case: str, output: int) -> None:
    assert usage_of(exchange("tgi", f"08-error-mid-{case}")).output_tokens == output


def test_error_replies_pass_unchanged() -> None:
    for case in cases("tgi", "0[678]-*"):
        for recorded, _ in _errors("tgi", case):
            meter = recorded.call(b"{}").meter()
            assert replay(recorded, meter) == recorded.reply


def test_a_tool_call_cut_short_is_a_failure_because_its_tokens_were_made() -> None:
    usage = usage_of(exchange("tgi", "13-chat-tools-cut-plain"))
    assert usage.error is not None
    assert usage.error.kind is ErrorKind.FAILED


@pytest.mark.parametrize("case", ["03-stream-best-of", "03-stream-decoder-input-details"])
def test_options_refused_inside_a_stream_are_refusals(case: str) -> None:
    usage = usage_of(exchange("tgi", case))
    assert usage.error is not None
    assert usage.error.kind is ErrorKind.REFUSED


@pytest.mark.parametrize("case", ["06-errors-chat", "06-errors-others"])
def test_every_recorded_error_of_llamacpp_says_by_its_status_what_it_is(case: str) -> None:
    errors = _errors("llamacpp", case)
    assert errors
    for recorded, usage in errors:
        assert usage.error is not None
        assert usage.error.kind is (ErrorKind.REFUSED if recorded.status == 400 else ErrorKind.FAILED)
        assert usage.error.message == json.loads(recorded.reply)["error"]["message"]


def _error_of(status: int, body: bytes) -> tuple[ErrorKind, str]:
    meter = OpenAiMeter()
    meter.head(status, {})
    assert meter.body(body) == body
    assert meter.usage.error is not None
    return meter.usage.error.kind, meter.usage.error.message


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (
            503,
            b'{"error":{"code":503,"message":"no slot available","type":"unavailable_error"}}',
            "overloaded",
            "no slot",
        ),
        (429, b'{"error":{"message":"slow down","code":"rate_limit_exceeded"}}', "overloaded", "slow down"),
        (500, b'{"error":{"message":"busy","code":"503"}}', "overloaded", "busy"),
        (400, b'{"object":"error","message":"bad","type":"BadRequestError","code":400}', "refused", "bad"),
        (404, b'{"detail":"Not Found"}', "refused", '{"detail"'),
        (401, b"", "refused", "HTTP status 401"),
        (500, b"Internal Server Error", "failed", "Internal Server Error"),
        (502, b"\xff\xfe", "failed", "\ufffd"),
        (422, b'{"error":"Template error: x","error_type":"template_error"}', "refused", "Template error"),
        (422, b'{"error":"new words","error_type":"tool_error"}', "refused", "new words"),
        (424, b'{"error":"new words","error_type":"generation"}', "failed", "new words"),
        (424, b"", "failed", "HTTP status 424"),
        (400, b"[" * 100_000, "refused", "[[["),
    ],
)
def test_errors_of_any_shape_are_classified(status: int, body: bytes, kind: str, message: str) -> None:
    found_kind, found_message = _error_of(status, body)
    assert found_kind is ErrorKind(kind)
    assert found_message.startswith(message)
    assert len(found_message) <= 1000


def test_count_headers_of_an_error_are_not_charged() -> None:
    meter = TgiChatMeter()
    meter.head(422, {"x-prompt-tokens": "6", "x-generated-tokens": "5"})
    assert (meter.usage.prompt_tokens, meter.usage.output_tokens, meter.usage.final) == (None, 0, False)


def test_an_error_status_is_an_error_before_its_body_has_come() -> None:
    meter = OpenAiMeter()
    meter.head(503, {})
    assert meter.usage.error is not None
    assert meter.usage.error.kind is ErrorKind.OVERLOADED


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (b'data: {"error": {"message": "busy", "type": "Service Unavailable", "code": 503}}\n\n', "overloaded"),
        (b'data: {"error": {"message": "no such model", "code": 404}}\n\n', "refused"),
        (b'data: {"error": {"message": "EngineCore died", "code": 500}}\n\n', "failed"),
        (b'data: {"error": "it broke"}\n\n', "failed"),
        (b'data: {"object": "error", "message": "bad", "code": 400}\n\n', "refused"),
    ],
)
def test_error_events_of_other_engines_are_classified(event: bytes, kind: str) -> None:
    meter = OpenAiMeter()
    assert meter.event(event) == event
    assert meter.usage.error is not None
    assert meter.usage.error.kind is ErrorKind(kind)


@pytest.mark.parametrize("meter", [LlamaOpenAiMeter(), LlamaNativeMeter(), TgiCompletionsMeter(), TgiNativeMeter()])
def test_every_meter_reads_error_events(meter: Meter) -> None:
    event = b'data: {"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}\n\n'
    assert meter.event(event) == event
    assert meter.usage.error == EngineError(ErrorKind.OVERLOADED, "Loading model")


def test_a_failure_replaces_an_earlier_refusal_of_another_prompt() -> None:
    meter = TgiChatMeter()
    meter.event(b'data: {"error":{"message":"Model is overloaded","http_status_code":422}}\n\n')
    meter.event(b'data: {"error":{"message":"Incomplete generation stream","http_status_code":422}}\n\n')
    meter.event(b'data: {"error":{"message":"Model is overloaded","http_status_code":422}}\n\n')
    assert meter.usage.error is not None
    assert meter.usage.error.message == "Incomplete generation stream"


def test_an_error_that_is_null_is_none() -> None:
    meter = OpenAiMeter()
    meter.event(b'data: {"choices":[{"index":0,"delta":{"content":"x"}}],"error":null}\n\n')
    assert meter.usage.error is None
    assert meter.usage.output_tokens == 1
