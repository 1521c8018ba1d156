"""The proxy's own refusals have the shape that the clients of the route parse."""

import json
from typing import Any

import pytest

from fairqueue_proxy.engines import Api, error_event, refusal_body
from fairqueue_proxy.metering import (
    ErrorKind,
    EventSplitter,
    LlamaNativeMeter,
    MessagesMeter,
    Meter,
    OpenAiMeter,
    OtherMeter,
    ResponsesMeter,
    SglangNativeMeter,
    TgiChatMeter,
    TgiNativeMeter,
)

NATIVE = [Api.TGI_GENERATE, Api.TGI_STREAM, Api.TGI_ROOT, Api.TGI_VERTEX, Api.TGI_INVOCATIONS]
OPENAI = [
    Api.CHAT,
    Api.COMPLETIONS,
    Api.EMBEDDINGS,
    Api.INVOCATIONS,
    Api.SGLANG_GENERATE,
    Api.OTHER,
    None,
]
FULL: dict[str, Any] = {"status": 429, "code": "tenant_queue_full", "message": "team-a has 20 requests waiting"}


def _body(api: Api | None, **refusal: Any) -> dict[str, Any]:
    content_type, body = refusal_body(api, **(FULL | refusal))
    assert content_type == "application/json"
    decoded: dict[str, Any] = json.loads(body)
    return decoded


@pytest.mark.parametrize("api", NATIVE)
def test_native_routes_speak_tgis_words(api: Api) -> None:
    assert _body(api) == {"error": FULL["message"], "error_type": "overloaded", "reason": "tenant_queue_full"}


@pytest.mark.parametrize("api", OPENAI)
def test_openai_routes_have_a_message_that_openai_and_an_error_type_that_hub_clients_find(api: Api | None) -> None:
    body = _body(api)
    assert body["error"] == {
        "message": FULL["message"],
        "type": "overloaded_error",
        "code": 429,
        "reason": "tenant_queue_full",
    }
    assert body["error_type"] == "overloaded"


def test_messages_have_anthropics_shape() -> None:
    body = _body(Api.MESSAGES)
    assert body["type"] == "error"
    assert body["error"]["type"] == "rate_limit_error"
    assert body["error"]["message"] == FULL["message"]
    assert _body(Api.MESSAGES, status=503)["error"]["type"] == "overloaded_error"
    assert _body(Api.MESSAGES, status=502)["error"]["type"] == "api_error"


def test_responses_have_openais_shape_and_its_own_event() -> None:
    assert _body(Api.RESPONSES) == _body(Api.CHAT)
    name, _, data = error_event(Api.RESPONSES, **FULL).partition(b"\n")
    assert name == b"event: error"
    event = json.loads(data.removeprefix(b"data: "))
    assert (event["type"], event["code"], event["message"]) == ("error", "tenant_queue_full", FULL["message"])
    # OpenAI's client raises for this one.
    assert event["error"]["message"] == FULL["message"]


def test_an_error_event_of_messages_is_named() -> None:
    event = error_event(Api.MESSAGES, **FULL)
    assert event == b"event: error\ndata: " + refusal_body(Api.MESSAGES, **FULL)[1] + b"\n\n"


def test_every_shape_is_spoken() -> None:
    for api in Api:
        assert json.loads(refusal_body(api, **FULL)[1])
        assert error_event(api, **FULL).endswith(b"\n\n")


def test_llamacpp_native_route_has_its_error_object() -> None:
    error = _body(Api.LLAMA_COMPLETION)["error"]
    assert (error["code"], error["message"], error["type"]) == (429, FULL["message"], "overloaded_error")


@pytest.mark.parametrize(
    ("status", "code", "tgi_type", "openai_type"),
    [
        (400, "bad_request", "validation", "invalid_request_error"),
        (401, "unauthenticated", "unauthenticated", "authentication_error"),
        (403, "forbidden_route", "forbidden_route", "permission_error"),
        (413, "too_large", "validation", "invalid_request_error"),
        (502, "engine_error", "generation", "server_error"),
        (503, "queue_full", "overloaded", "overloaded_error"),
        (504, "queue_timeout", "overloaded", "timeout_error"),
    ],
)
def test_each_status_has_its_words(status: int, code: str, tgi_type: str, openai_type: str) -> None:
    assert _body(Api.TGI_ROOT, status=status, code=code)["error_type"] == tgi_type
    assert _body(Api.CHAT, status=status, code=code)["error"]["type"] == openai_type


@pytest.mark.parametrize("api", [*NATIVE, *OPENAI, Api.LLAMA_COMPLETION])
def test_the_error_event_carries_the_body_and_openai_streams_end_with_done(api: Api | None) -> None:
    splitter = EventSplitter()
    events = splitter.feed(error_event(api, **FULL))
    assert splitter.flush() == b""
    assert events[0] == b"data: " + refusal_body(api, **FULL)[1] + b"\n\n"
    assert events[1:] == ([b"data: [DONE]\n\n"] if api in OPENAI else [])


@pytest.mark.parametrize(
    ("api", "meter"),
    [
        (Api.TGI_STREAM, TgiNativeMeter()),
        (Api.CHAT, TgiChatMeter()),
        (Api.COMPLETIONS, OpenAiMeter()),
        (Api.LLAMA_COMPLETION, LlamaNativeMeter()),
        (Api.RESPONSES, ResponsesMeter()),
        (Api.MESSAGES, MessagesMeter()),
        (Api.SGLANG_GENERATE, SglangNativeMeter()),
        (Api.OTHER, OtherMeter()),
    ],
)
def test_a_proxy_in_front_of_this_one_reads_the_refusal_as_an_overload(api: Api, meter: Meter) -> None:
    for event in EventSplitter().feed(error_event(api, **FULL)):
        meter.event(event)
    assert meter.usage.error is not None
    assert meter.usage.error.kind is ErrorKind.OVERLOADED


def test_a_message_cannot_break_out_of_its_event() -> None:
    event = error_event(Api.CHAT, status=400, code="bad_request", message="a\n\ndata: [DONE]\n\n\u2028é")
    assert EventSplitter().feed(event)[0].count(b"\n") == 2
    assert "\u2028é" in json.loads(event.split(b"\n\n")[0][len("data: ") :])["error"]["message"]
