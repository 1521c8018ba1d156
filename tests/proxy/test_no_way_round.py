"""No way round: what acts on others or on the engine's order does not reach the engine, however it is dressed up. What
is smuggled in the framing of requests is in `test_smuggling`."""

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from fairqueue_proxy.engines import BadBody, engine_for
from fairqueue_sim import RunningEngine, running_engine
from fairqueue_sim.running import EngineKind
from fairqueue_sim.truth import Outcome
from proxy.conftest import StartProxy, Until
from proxy.raw_client import RawClient, ask, request
from proxy.scripted_engine import Play, ScriptedEngine, json_reply

KINDS: dict[EngineKind, str] = {"tgi": "TGI", "vllm": "VLLM", "sglang": "SGLang", "openai": "OpenAI"}
EVERY_KIND = [*KINDS.values(), "LlamaCpp"]

CHAT = "/v1/chat/completions"
SLOW_TOKENS = 12


def chat(content: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], "max_tokens": SLOW_TOKENS, **fields}


async def sent_on(stack_data: Any, scripted: ScriptedEngine, data: bytes) -> Play:
    """What the engine gets of a request."""
    async with RawClient(stack_data) as client:
        client.send(data)
        play = await scripted.play()
        play.answer(json_reply({"choices": []}))
        assert (await client.reply()).status == 200
    return play


ABORTS = {
    "tgi": "/abort",
    "vllm": "/inference/v1/abort_requests",
    "sglang": "/abort_request",
    "openai": "/v1/abort_requests",
}

DISGUISES: list[Callable[[str], str]] = [
    lambda path: path,
    lambda path: f"/{path}",
    lambda path: path.replace("/", "//"),
    lambda path: f"/.{path}",
    lambda path: f"/health/..{path}",
    lambda path: f"/health/%2e%2e{path}",
    lambda path: f"/health%2f..{path}",
    lambda path: f"{CHAT}/../../..{path}",
    lambda path: path.replace("a", "%61"),
    lambda path: path.replace("a", "%2561"),
    lambda path: path.replace("/", "%2F"),
    lambda path: f"{path}/",
    lambda path: f"{path}//.",
    lambda path: f"{path}?path=/health",
    lambda path: f"{path};/../health/..{path}",
    lambda path: path.upper(),
    lambda path: path.replace("/", "\\"),
    lambda path: f"http://proxy{path}",
    lambda path: f"HTTP://proxy@engine{path}",
    lambda path: path.removeprefix("/"),
]


@pytest.mark.parametrize("kind", KINDS)
async def test_nobody_ends_a_request_of_another_tenant(start_proxy: StartProxy, until: Until, kind: EngineKind) -> None:
    async with running_engine(kind, profile="tiny") as engine:
        stack = await start_proxy(engine.port, kind=KINDS[kind])
        body = chat("[[slow=25]] tell me a story", stream=True)
        data = request(CHAT, body, tenant="alice", headers={"x-request-id": "known-to-bob"})
        story = asyncio.create_task(ask(stack.data, data))
        await until(lambda: bool(engine.truth.requests) and engine.truth.requests[0].made_tokens > 0)
        # Even with the id by which the engine really knows it.
        known = ["known-to-bob", engine.truth.requests[0].request_id]
        body = {"request_ids": [*known, *(f"chatcmpl-{each}" for each in known)], "rid": known[1], "abort_all": True}
        for disguise in DISGUISES:
            path = disguise(ABORTS[kind])
            assert (await ask(stack.data, request(path, body, tenant="bob"))).status in (400, 403), path
        assert engine.truth.requests[0].outcome is None
        assert (await story).status == 200
        (truth,) = engine.truth.requests
        assert (truth.outcome, truth.made_tokens) == (Outcome.DONE, SLOW_TOKENS)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/v1/abort_requests#/x", "/v1/abort_requests%23/x"),
        ("/v1/abort_requests%23", "/v1/abort_requests%23"),
        ("/v1/abort_requests%3Fx", "/v1/abort_requests%3Fx"),
        ("/v1/x%20HTTP/1.1%20", "/v1/x%20HTTP/1.1%20"),
    ],
)
async def test_what_ends_a_path_for_others_is_sent_on_as_part_of_it(
    start_proxy: StartProxy, scripted: ScriptedEngine, path: str, target: str
) -> None:
    """Engines of kind OpenAI get what is unknown below /v1/, as the proxy has read it."""
    stack = await start_proxy(scripted.port, kind="OpenAI")
    play = await sent_on(stack.data, scripted, request(path, {}, tenant="bob"))
    assert play.head.split(b"\r\n")[0].decode() == f"POST {target} HTTP/1.1"


@pytest.mark.parametrize("data", [request(f"/v1/x{text}", {}, tenant="bob") for text in ("%0d%0aX:%20y", "%00", "%5c")])
async def test_what_could_break_a_head_in_two_is_refused(
    start_proxy: StartProxy, scripted: ScriptedEngine, data: bytes
) -> None:
    stack = await start_proxy(scripted.port, kind="OpenAI")
    assert (await ask(stack.data, data)).status == 403
    assert scripted.unanswered == 0


async def aborted_directly(engine: RunningEngine, path: str, body: dict[str, Any]) -> None:
    async with aiohttp.ClientSession() as session, session.post(engine.url + path, json=body) as reply:
        assert reply.status == 200


async def test_where_ids_end_requests_the_engine_knows_them_by_another_id_than_the_client_chose(
    start_proxy: StartProxy, until: Until
) -> None:
    """Who gets round the proxy can't guess it. With it, the simulated engine does what the real one would."""
    async with running_engine("vllm", profile="tiny") as engine:
        stack = await start_proxy(engine.port, kind="VLLM")
        body = chat("[[slow=10]] tell me a story", stream=True, request_id="known-to-bob")
        data = request(CHAT, body, tenant="alice", headers={"x-request-id": "known-to-bob"})
        story = asyncio.create_task(ask(stack.data, data))
        await until(lambda: bool(engine.truth.requests) and engine.truth.requests[0].made_tokens > 0)
        (truth,) = engine.truth.requests
        path = "/inference/v1/abort_requests"
        await aborted_directly(engine, path, {"request_ids": ["chatcmpl-known-to-bob", "known-to-bob"]})
        assert truth.outcome is None
        assert truth.request_id is not None
        assert truth.request_id.startswith("known-to-bob-")
        await aborted_directly(engine, path, {"request_ids": [f"chatcmpl-{truth.request_id}"]})
        reply = await story
        assert reply.headers["x-request-id"] == "known-to-bob"
        await until(lambda: truth.outcome is Outcome.ABORTED)
        assert truth.made_tokens < SLOW_TOKENS


METHODS = ["GET", "HEAD", "PUT", "PATCH", "DELETE", "TRACE", "LINK", "POST"]


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        pytest.param(method, kind, marks=() if method in ("GET", "POST") or kind == "VLLM" else pytest.mark.long)
        for method in METHODS
        for kind in EVERY_KIND
    ],
)
async def test_no_method_opens_a_metered_route_without_a_key(
    start_proxy: StartProxy, scripted: ScriptedEngine, kind: str, method: str
) -> None:
    stack = await start_proxy(scripted.port, kind=kind)
    scripted.asked.clear()
    expected = 401 if method == "POST" else 403
    for override in ({}, {"X-HTTP-Method-Override": "POST"}, {"X-HTTP-Method": "GET"}, {"X-Original-URL": "/health"}):
        for path in sorted(engine_for(kind).metered_paths - {"/"}):
            async with RawClient(stack.data) as client:
                client.send(request(path, chat(), method=method, headers=override))
                assert (await client.head())[0] == expected, path
    assert scripted.unanswered == 0
    assert not [head for head in scripted.asked if head.split()[1].decode() in engine_for(kind).metered_paths]


@pytest.mark.parametrize("path", ["/health_generate", "/v1/responses/resp_1", "/server_info", "/slots", "/v1/files"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_reading_what_generates_or_tells_of_others_is_refused(
    start_proxy: StartProxy, scripted: ScriptedEngine, path: str, method: str
) -> None:
    for kind in EVERY_KIND:
        stack = await start_proxy(scripted.port, kind=kind)
        scripted.asked.clear()
        async with RawClient(stack.data) as client:
            client.send(request(path, method=method, tenant="bob"))
            assert (await client.head())[0] == 403, kind
        assert not [head for head in scripted.asked if path.encode() in head]


STEERING: dict[str, Any] = {
    "priority": -9,
    "rid": "known",
    "request_id": "known",
    "id_slot": 0,
    "session_id": "known",
    "session_params": {"id": "known"},
    "conversation_id": "known",
    "data_parallel_rank": 1,
    "routed_dp_rank": 1,
    "kv_transfer_params": {"do_remote_decode": True},
    "ec_transfer_params": {},
    "bootstrap_host": "elsewhere",
    "bootstrap_port": 1,
    "bootstrap_room": 7,
}


@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
@pytest.mark.parametrize("kind", EVERY_KIND)
async def test_fields_that_steer_the_engine_do_not_reach_it(
    start_proxy: StartProxy, scripted: ScriptedEngine, kind: str, path: str
) -> None:
    stack = await start_proxy(scripted.port, kind=kind)
    body = chat(prompt="hello", temperature=0.5, **STEERING)
    play = await sent_on(stack.data, scripted, request(path, body, tenant="alice"))
    assert not STEERING.keys() & play.json.keys()
    assert play.json["temperature"] == 0.5


@pytest.mark.parametrize(
    "written",
    [
        b'"priority": -9, "priority": -9',
        b'"pri\\u006frity": -9',
        b'"\\u0070\\u0072\\u0069\\u006f\\u0072\\u0069\\u0074\\u0079": -9, "priority": -9',
        b'"priority": -9, "seed": 1, "priority": null',
        b'"priority"\n\t:\r -9',
    ],
    ids=["twice", "one-letter-escaped", "all-escaped", "null-at-last", "spread"],
)
@pytest.mark.parametrize("kind", EVERY_KIND)
async def test_a_priority_is_found_however_it_is_written(
    start_proxy: StartProxy, scripted: ScriptedEngine, kind: str, written: bytes
) -> None:
    stack = await start_proxy(scripted.port, kind=kind)
    body = b'{"messages": [], "max_tokens": 2, ' + written + b"}"
    play = await sent_on(stack.data, scripted, request(CHAT, body, tenant="alice"))
    assert "priority" not in play.json
    assert b"-9" not in play.body


@pytest.mark.parametrize(
    "body",
    [
        b'\xef\xbb\xbf{"priority": -9}',
        '{"priority": -9}'.encode("utf-16"),
        '{"priority": -9}'.encode("utf-32-le"),
        b'{"priority": -9, "top_p": NaN}',
        b'{"priority": -9, "messages": [1,]}',
        b'[{"priority": -9}]',
    ],
    ids=["byte-order-mark", "UTF-16", "UTF-32", "NaN", "comma-too-many", "list"],
)
@pytest.mark.parametrize("kind", EVERY_KIND)
async def test_a_body_that_only_a_lenient_engine_could_read_is_refused(
    start_proxy: StartProxy, scripted: ScriptedEngine, kind: str, body: bytes
) -> None:
    """Python's own reader takes most of these: what the proxy can't see it can't drop."""
    stack = await start_proxy(scripted.port, kind=kind)
    assert (await ask(stack.data, request(CHAT, body, tenant="alice"))).status == 400
    assert scripted.unanswered == 0


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_so_it_is_on_a_route_that_is_not_known(encoding: str) -> None:
    engine = engine_for("OpenAI")
    route = engine.route("POST", "/v1/chat/completions/batch")
    with pytest.raises(BadBody):
        engine.parse(route, '{"priority": -9, "n": 50}'.encode(encoding))


@pytest.mark.parametrize("kind", EVERY_KIND)
async def test_headers_that_steer_the_engine_do_not_reach_it_in_any_case(
    start_proxy: StartProxy, scripted: ScriptedEngine, kind: str
) -> None:
    stack = await start_proxy(scripted.port, kind=kind)
    names = sorted(engine_for(kind).stripped_headers)
    assert {"x-vllm-priority", "x-override-priority", "x-override-rid", "x-conversation-id"} <= set(names)
    for write in (str.lower, str.upper, str.title, str.swapcase):
        headers = {write(name): "9" for name in names} | {"X-Fine": "stays"}
        play = await sent_on(stack.data, scripted, request(CHAT, chat(), tenant="alice", headers=headers))
        assert play.headers["x-fine"] == "stays"
        assert not set(names) & play.headers.keys()


CREDENTIAL_NAMES = ["authorization", "AUTHORIZATION", "aUTHORIZATION", "Authorization"]


@pytest.mark.parametrize("name", CREDENTIAL_NAMES)
async def test_a_key_in_a_header_of_odd_case_is_a_key_and_stays_here(
    start_proxy: StartProxy, scripted: ScriptedEngine, name: str
) -> None:
    stack = await start_proxy(scripted.port)
    play = await sent_on(
        stack.data, scripted, request(CHAT, chat(), headers={name: "bEARER key-of-alice", "X-Fine": "stays"})
    )
    assert "authorization" not in play.headers
    assert b"key-of-alice" not in play.head


@pytest.mark.parametrize(
    "listed",
    [
        "authorization",
        "Authorization, X-Request-Id, Host, Content-Length",
        "close, x-vllm-priority, transfer-encoding",
        "x-tenant, content-length",
        ",,  , keep-alive,x-request-id",
    ],
)
async def test_what_a_client_lists_as_its_connections_own_takes_nothing_of_ours_away(
    start_proxy: StartProxy, scripted: ScriptedEngine, listed: str
) -> None:
    stack = await start_proxy(scripted.port, engine_key="sk-engine")
    headers = {"Connection": listed, "X-Vllm-Priority": "0", "x-request-id": "mine", "X-Fine": "stays"}
    play = await sent_on(stack.data, scripted, request(CHAT, chat(), tenant="alice", headers=headers))
    assert play.headers["authorization"] == "Bearer sk-engine"
    assert play.headers["x-request-id"] == "mine"
    assert play.headers["host"] == f"127.0.0.1:{scripted.port}"
    assert play.headers["content-length"] == str(len(play.body))
    assert play.headers["x-fine"] == "stays"
    assert not {"connection", "x-vllm-priority", "transfer-encoding"} & play.headers.keys()


@pytest.mark.parametrize(
    "data",
    [
        request(CHAT, chat(), tenant="alice", headers={"Connection": "Upgrade", "Upgrade": "websocket"}),
        request(CHAT, chat(), tenant="alice", headers={"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c"}),
        request(CHAT, chat(), tenant="alice", headers={"uPGRADE": "TLS/1.0"}),
        request("/health", method="GET", headers={"Connection": "Upgrade", "Upgrade": "h2c"}),
        request("/v1/realtime", method="GET", headers={"Connection": "Upgrade", "Upgrade": "websocket"}),
        request("127.0.0.1:22", method="CONNECT"),
        request("/health", method="CONNECT"),
        request("*", method="OPTIONS"),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=["websocket", "h2c", "no-connection", "free-route", "realtime", "tunnel", "free-tunnel", "asterisk", "HTTP/2"],
)
@pytest.mark.parametrize("kind", EVERY_KIND)
async def test_nothing_becomes_another_protocol(
    start_proxy: StartProxy, scripted: ScriptedEngine, kind: str, data: bytes
) -> None:
    stack = await start_proxy(scripted.port, kind=kind)
    scripted.asked.clear()
    assert (await ask(stack.data, data)).status in (400, 403)
    assert scripted.unanswered == 0
    assert not [head for head in scripted.asked if b"pgrade" in head.lower() or b"CONNECT" in head]
