"""The body that reaches the engine: the client's values byte for byte, without what steers, with what counts."""

import json
from typing import Any

import pytest

from engines.parsing import parse, sent
from fairqueue_proxy.engines import BadBody
from metering.recorded import DATA

ROUTES = [
    ("TGI", "/"),
    ("TGI", "/generate"),
    ("TGI", "/v1/chat/completions"),
    ("TGI", "/v1/completions"),
    ("LlamaCpp", "/completion"),
    ("LlamaCpp", "/v1/completions"),
    ("LlamaCpp", "/v1/chat/completions"),
    ("LlamaCpp", "/v1/messages"),
    ("LlamaCpp", "/v1/embeddings"),
    ("LlamaCpp", "/v1/responses"),
    ("VLLM", "/v1/completions"),
    ("VLLM", "/v1/chat/completions"),
    ("VLLM", "/v1/messages"),
    ("VLLM", "/v1/embeddings"),
    ("SGLang", "/generate"),
    ("SGLang", "/v1/completions"),
    ("SGLang", "/v1/chat/completions"),
    ("OpenAI", "/v1/completions"),
    ("OpenAI", "/v1/chat/completions"),
]
ODD_VALUES = (
    b'{"a":1.50,"b":[ 1,\t2 ],"\xc3\xa9":"\\u00e9\\/","c":{"x":1,"x":2},"d":1e400,"e":123456789012345678901234567890}'
)


@pytest.mark.parametrize(("kind", "path"), ROUTES)
def test_values_pass_byte_for_byte_and_unknown_fields_survive(kind: str, path: str) -> None:
    assert parse(kind, path, ODD_VALUES).body == ODD_VALUES
    spaced = ODD_VALUES.replace(b'"a":1.50,', b' "a" : 1.50 ,\n')
    assert parse(kind, path, spaced).body == ODD_VALUES


@pytest.mark.parametrize(("kind", "path"), ROUTES)
def test_of_a_name_that_comes_twice_the_engine_sees_what_the_proxy_saw(kind: str, path: str) -> None:
    call = parse(kind, path, b'{"stream":true,"max_tokens":5,"stream":false,"max_tokens":7}')
    assert json.loads(call.body)["max_tokens"] == 7
    assert call.body.count(b"max_tokens") == call.body.count(b'"stream"') == 1
    assert not call.stream


def test_parameters_that_come_twice_are_read_once_too() -> None:
    body = b'{"inputs":"x","parameters":{"max_new_tokens":5,"max_new_tokens":7}}'
    call = parse("TGI", "/generate", body)
    assert call.max_tokens == 7
    assert call.body == b'{"inputs":"x","parameters":{"max_new_tokens":7}}'


@pytest.mark.parametrize(("kind", "path"), ROUTES)
def test_fields_that_steer_the_engine_are_dropped(kind: str, path: str) -> None:
    steering = {
        "priority": -5,
        "rid": "a",
        "data_parallel_rank": 1,
        "kv_transfer_params": {},
        "bootstrap_host": "h",
        "bootstrap_room": 1,
        "id_slot": 0,
        "request_id": "r",
        "routed_dp_rank": 0,
        "session_id": "s",
        "session_params": {"id": "s"},
        "conversation_id": "c",
        "http_worker_ipc": "ipc://x",
    }
    assert sent(kind, path, {"prompt": "x", **steering}) == {"prompt": "x"}
    assert sent(kind, path, b'{"prior\\u0069ty":1}') == {}


@pytest.mark.parametrize(("kind", "path"), ROUTES)
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b'{"a":1}}', "not valid JSON"),
        (b'{"a":NaN}', "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'"x"', "must be a JSON object"),
        (b'{"\xff":1}', "not valid UTF-8"),
        (b'{"a":' + b"[" * 40_000, "nested too deeply"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(kind: str, path: str, body: bytes, message: str) -> None:
    with pytest.raises(BadBody, match=message):
        parse(kind, path, body)


@pytest.mark.parametrize(
    ("path", "parameters", "expected"),
    [
        pytest.param("/generate_stream", {}, {"details": True}, id="empty"),
        pytest.param("/generate_stream", {"details": False}, {"details": True}, id="false"),
        pytest.param("/generate_stream", {"details": True, "seed": 1}, {"details": True, "seed": 1}, id="asked"),
        pytest.param("/generate_stream", {"details": None}, {"details": None}, id="null is TGI's to refuse"),
        pytest.param("/generate_stream", {"details": "yes"}, {"details": "yes"}, id="text is TGI's to refuse"),
        pytest.param("/generate_stream", 3, 3, id="parameters of a wrong type"),
        pytest.param("/generate_stream", None, None, id="null parameters"),
        pytest.param("/generate", {}, {}, id="a plain reply has headers"),
        pytest.param("/generate", {"best_of": 1}, {"best_of": 1}, id="one sequence"),
        pytest.param("/generate", {"best_of": 2}, {"best_of": 2, "details": True}, id="two sequences"),
    ],
)
def test_tgi_details_are_asked_for_where_only_they_tell(path: str, parameters: Any, expected: Any) -> None:
    assert sent("TGI", path, {"inputs": "x", "parameters": parameters}) == {"inputs": "x", "parameters": expected}


def test_details_that_a_client_asked_for_in_another_way_stay_in_its_reply() -> None:
    parameters = {"best_of": 2, "do_sample": True, "decoder_input_details": True}
    meter = parse("TGI", "/generate", {"inputs": "x", "parameters": parameters}).meter()
    reply = b'{"generated_text":"y","details":{"generated_tokens":1,"prefill":[]}}'
    meter.head(200, {})
    assert meter.body(reply) == reply
    assert meter.usage.output_tokens == 1


def test_a_native_stream_without_parameters_still_samples() -> None:
    assert sent("TGI", "/generate_stream", {"inputs": "x"})["parameters"] == {"do_sample": True, "details": True}


@pytest.mark.parametrize(("stream", "asks"), [(True, True), (False, False), (None, False), ("true", False), (1, False)])
def test_the_root_route_streams_on_the_literal_true_only(stream: Any, asks: bool) -> None:
    call = parse("TGI", "/", {"inputs": "x", "parameters": {}, "stream": stream})
    assert call.stream is asks
    assert (b'"details":true' in call.body) is asks


def test_the_stream_field_means_nothing_on_the_other_native_routes() -> None:
    assert not parse("TGI", "/generate", {"inputs": "x", "stream": True}).stream
    assert parse("TGI", "/generate_stream", {"inputs": "x", "stream": False}).stream


WANTED = {"include_usage": True}
LIVE = {"include_usage": True, "continuous_usage_stats": True}


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("TGI", ..., WANTED),
        ("TGI", {"include_usage": False}, WANTED),
        ("TGI", WANTED, WANTED),
        ("TGI", None, None),
        ("TGI", "x", "x"),
        ("TGI", {"include_usage": "yes"}, {"include_usage": "yes"}),
        ("OpenAI", ..., WANTED),
        ("OpenAI", None, WANTED),
        ("OpenAI", {}, WANTED),
        ("OpenAI", {"continuous_usage_stats": True}, {"continuous_usage_stats": True, **WANTED}),
        ("OpenAI", {"include_usage": "true"}, {"include_usage": "true"}),
        ("OpenAI", [], []),
        ("VLLM", ..., LIVE),
        ("VLLM", None, LIVE),
        ("VLLM", {"include_usage": False}, LIVE),
        ("VLLM", {"include_usage": "yes", "x": 1}, {"include_usage": "yes", "x": 1, "continuous_usage_stats": True}),
        ("VLLM", {"include_usage": "perhaps"}, {"include_usage": "perhaps"}),
        ("VLLM", "x", "x"),
        ("SGLang", ..., LIVE),
        ("SGLang", {"continuous_usage_stats": 1}, {"continuous_usage_stats": 1, "include_usage": True}),
        ("SGLang", LIVE, LIVE),
    ],
)
def test_usage_of_a_chat_stream_is_asked_for(kind: str, options: Any, expected: Any) -> None:
    given = {} if options is ... else {"stream_options": options}
    body = {"messages": [], "stream": True, **given}
    assert sent(kind, "/v1/chat/completions", body)["stream_options"] == expected


def test_nothing_is_asked_for_where_usage_comes_unasked() -> None:
    plain = {"messages": [], "stream": False}
    assert sent("TGI", "/v1/chat/completions", plain) == plain
    assert sent("OpenAI", "/v1/chat/completions", plain) == plain
    assert sent("VLLM", "/v1/chat/completions", plain) == plain
    assert sent("SGLang", "/v1/chat/completions", plain) == plain
    assert sent("LlamaCpp", "/v1/chat/completions", plain) == plain
    stream = {"prompt": "x", "stream": True}
    assert sent("TGI", "/v1/completions", stream) == stream
    assert sent("LlamaCpp", "/completion", stream) == stream


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/chat/completions"])
@pytest.mark.parametrize(("asked", "expected"), [(..., True), (False, True), (None, True), (True, True), ("x", "x")])
def test_llamacpp_streams_are_asked_for_timings(path: str, asked: Any, expected: Any) -> None:
    given = {} if asked is ... else {"timings_per_token": asked}
    assert sent("LlamaCpp", path, {"stream": True, **given})["timings_per_token"] == expected


@pytest.mark.parametrize(
    ("value", "lax", "strict"),
    [
        (True, True, True),
        (False, False, False),
        ("true", True, False),
        ("YES", True, False),
        (1, True, False),
        (1.0, True, False),
        ("no", False, False),
        ({}, False, False),
    ],
)
def test_stream_is_read_as_the_engine_reads_it(value: Any, lax: bool, strict: bool) -> None:
    body = {"prompt": "x", "stream": value}
    for kind in ("OpenAI", "VLLM", "SGLang"):
        assert parse(kind, "/v1/completions", body).stream is lax
    assert parse("TGI", "/v1/completions", body).stream is strict
    assert parse("LlamaCpp", "/v1/completions", body).stream is strict


def test_a_stream_that_is_asked_for_in_escapes_is_a_stream() -> None:
    assert parse("VLLM", "/v1/completions", b'{"stream":"\\u0074rue"}').stream


def _client_requests() -> list[Any]:
    requests = []
    for case in ("12-client-text-generation", "12-client-hub-openai"):
        for call in json.loads((DATA / "tgi" / f"{case}.json").read_text())["calls"]:
            for number, wire in enumerate(call.get("wire", [])):
                head, _, body = wire["request"].partition("\r\n\r\n")
                method, path, _ = head.split(" ", 2)
                is_whole = body.startswith("{") and body.endswith("}")
                if method == "POST" and is_whole and path in ("/", "/v1/chat/completions", "/v1/completions"):
                    requests.append(pytest.param(path, body, id=f"{call['call']} {number}"))
    return requests


@pytest.mark.parametrize(("path", "body"), _client_requests())
def test_bodies_of_real_clients_reach_the_engine_with_nothing_but_usage_added(path: str, body: str) -> None:
    original = json.loads(body)
    received = sent("TGI", path, body.encode())
    if path == "/v1/chat/completions" and original.get("stream"):
        assert received.pop("stream_options") == WANTED
        original.pop("stream_options", None)
    if path == "/" and original.get("stream"):
        assert received["parameters"].pop("details") is True
        original["parameters"].pop("details", None)
    assert received == original
