"""Who may do what: keys, refused routes and the tricks around them, and what never gets through to the engine."""

import pytest

from fairqueue_sim import RunningEngine
from proxy.conftest import StartProxy
from proxy.raw_client import RawClient, ask, request
from proxy.scripted_engine import ScriptedEngine, json_reply
from proxy_stack import key_of

GENERATE = {"inputs": "hello", "parameters": {"max_new_tokens": 2}}
CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": key_of("alice")[:-1]}])
async def test_without_a_key_that_somebody_has_it_is_401_in_the_routes_shape(
    start_proxy: StartProxy, engine: RunningEngine, headers: dict[str, str]
) -> None:
    stack = await start_proxy(engine.port)
    native = await ask(stack.data, request("/generate", GENERATE, headers=headers))
    assert (native.status, native.headers["www-authenticate"]) == (401, "Bearer")
    assert native.json["error_type"] == native.json["reason"] == "unauthenticated"
    assert "key" in native.json["error"]
    chat = await ask(stack.data, request("/v1/chat/completions", CHAT, headers=headers))
    assert chat.status == 401
    assert chat.json["error"]["type"] == "authentication_error"
    assert chat.headers["x-request-id"] != native.headers["x-request-id"]
    assert engine.truth.requests == []
    assert 'fairqueue_requests_total{tenant="",outcome="unauthenticated"} 2' in await stack.metrics()


async def test_a_key_sent_twice_is_refused(start_proxy: StartProxy, engine: RunningEngine) -> None:
    """Proxy and engine might each read another one."""
    stack = await start_proxy(engine.port)
    twice = request("/generate", GENERATE, tenant="alice").replace(b"\r\n", b"\r\nauthorization: Bearer other\r\n", 1)
    reply = await ask(stack.data, twice)
    assert reply.status == 400
    assert "authorization" in reply.json["error"]


async def test_the_first_header_that_is_there_decides_in_the_policys_order(
    start_proxy: StartProxy, engine: RunningEngine
) -> None:
    sources = [
        {"name": "own", "type": "APIKey", "apiKey": {"header": "X-Api-Key"}},
        {"name": "usual", "type": "APIKey", "apiKey": {}},
    ]
    stack = await start_proxy(engine.port, identity={"sources": sources})
    both = await ask(stack.data, request("/generate", GENERATE, tenant="bob", headers={"x-api-key": key_of("alice")}))
    assert both.headers["x-fairqueue-tenant"] == "alice"
    second = await ask(stack.data, request("/generate", GENERATE, tenant="bob"))
    assert second.headers["x-fairqueue-tenant"] == "bob"
    # A wrong key does not fall through to the next header.
    wrong = await ask(stack.data, request("/generate", GENERATE, tenant="bob", headers={"x-api-key": "nobodys"}))
    assert wrong.status == 401


REFUSED = [
    "/abort",
    "/slots/0?action=erase",
    "/GENERATE",
    "/Generate",
    "/generate/extra",
    "/../generate",
    "/%2e%2e/generate",
    "/generate/%2e%2e/%2e%2e/generate",
    "/generate%00",
    "/generate%5cx",
    "/%2567enerate",
    "/generate%ff",
    "/generate%20",
    "/health",
    "/metrics",
    "/v1/embeddings",
    "/generate#fragment",
    "http://engine/generate",
]


@pytest.mark.parametrize("path", REFUSED)
async def test_what_is_not_listed_is_refused_even_with_a_key(
    start_proxy: StartProxy, scripted: ScriptedEngine, path: str
) -> None:
    stack = await start_proxy(scripted.port)
    reply = await ask(stack.data, request(path, GENERATE, tenant="alice"))
    assert reply.status == 403
    assert reply.json["error_type"] == "forbidden_route"
    assert scripted.unanswered == 0
    assert 'fairqueue_requests_total{tenant="",outcome="forbidden_route"} 1\n' in await stack.metrics()


DISGUISED = [
    "//generate",
    "/./generate",
    "/%67enerate",
    "/health/../generate",
    "/health%2f..%2fgenerate",
    "/health/%2e%2e/generate",
    "/generate/",
    "/generate?priority=0",
]


@pytest.mark.parametrize("path", DISGUISED)
async def test_a_metered_route_in_disguise_needs_a_key_and_reaches_the_engine_in_plain_form(
    start_proxy: StartProxy, scripted: ScriptedEngine, path: str
) -> None:
    stack = await start_proxy(scripted.port)
    assert (await ask(stack.data, request(path, GENERATE))).status == 401
    async with RawClient(stack.data) as client:
        client.send(request(path, GENERATE, tenant="alice"))
        play = await scripted.play()
        target = play.head.split()[1].decode()
        assert target.partition("?")[0] == "/generate"
        assert target.partition("?")[2] == path.partition("?")[2]
        play.answer(json_reply({"generated_text": "x"}))
        assert (await client.reply()).status == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "GET"])
async def test_methods_that_a_route_does_not_have_are_refused(
    start_proxy: StartProxy, engine: RunningEngine, method: str
) -> None:
    stack = await start_proxy(engine.port)
    reply = await ask(stack.data, request("/generate", tenant="alice", method=method))
    assert reply.status == 403
    assert reply.json["error_type"] == "forbidden_route"
    assert engine.truth.requests == []


@pytest.mark.parametrize("value", ["websocket", "h2c"])
async def test_an_upgrade_is_refused(start_proxy: StartProxy, engine: RunningEngine, value: str) -> None:
    stack = await start_proxy(engine.port)
    headers = {"Connection": "Upgrade", "Upgrade": value}
    reply = await ask(stack.data, request("/generate", GENERATE, tenant="alice", headers=headers))
    assert reply.status == 403
    assert engine.truth.requests == []


async def test_a_tunnel_is_refused(start_proxy: StartProxy, engine: RunningEngine) -> None:
    stack = await start_proxy(engine.port)
    async with RawClient(stack.data) as client:
        client.send(b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.reply()).status == 403


@pytest.mark.parametrize("path", ["/health", "/info", "/v1/models", "/metrics", "/", "/ping"])
async def test_free_routes_need_no_key(start_proxy: StartProxy, engine: RunningEngine, path: str) -> None:
    stack = await start_proxy(engine.port)
    assert (await ask(stack.data, request(path, method="GET"))).status == 200
    async with RawClient(stack.data) as client:
        client.send(request(path, method="HEAD", headers={"Connection": "close"}))
        status, _ = await client.head()
        assert status == 200
        assert await client.rest() == b""


async def test_a_browsers_preflight_needs_no_key(start_proxy: StartProxy, engine: RunningEngine) -> None:
    stack = await start_proxy(engine.port)
    reply = await ask(stack.data, request("/generate", method="OPTIONS", headers={"Origin": "http://x"}))
    assert reply.status == 200
    assert reply.headers["access-control-allow-origin"] == "*"


async def test_a_free_route_answers_503_at_once_while_the_engine_is_down(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await start_proxy(scripted.port)
    await scripted.stop()
    reply = await ask(stack.data, request("/health", method="GET"))
    assert reply.status == 503
    assert 1 <= int(reply.headers["retry-after"]) <= 120


async def test_neither_key_nor_steering_reaches_the_engine(start_proxy: StartProxy, scripted: ScriptedEngine) -> None:
    stack = await start_proxy(scripted.port)
    steering = {"X-Vllm-Priority": "0", "x-override-priority": "1", "X-Conversation-Id": "c", "X-Fine": "stays"}
    hop_by_hop = {"Connection": "keep-alive, X-Hop", "X-Hop": "1", "TE": "trailers", "Proxy-Authorization": "Basic x"}
    steered = b'{"rid": "r", "inputs": "hello", "priority": -5, "parameters": {"max_new_tokens": 2}, "id_slot": 1, '
    body = steered + b'"bootstrap_host": "evil", "unknown": [1.50, null]}'
    async with RawClient(stack.data) as client:
        client.send(
            request("/generate", body, tenant="alice", headers=steering | hop_by_hop | {"X-Request-Id": "id-1"})
        )
        play = await scripted.play()
        play.answer(json_reply({"generated_text": "x"}))
        reply = await client.reply()
    assert key_of("alice").encode() not in play.head + play.body
    assert play.headers["x-fine"] == "stays"
    assert play.headers["x-request-id"] == reply.headers["x-request-id"] == "id-1"
    gone = {name.lower() for name in [*steering, *hop_by_hop, "Authorization"]} - {"x-fine"}
    assert not gone & play.headers.keys()
    assert play.body == b'{"inputs":"hello","parameters":{"max_new_tokens":2},"unknown":[1.50, null]}'


async def test_a_reply_says_whose_it_was_and_how_long_it_waited(start_proxy: StartProxy, engine: RunningEngine) -> None:
    stack = await start_proxy(engine.port)
    reply = await ask(stack.data, request("/generate", GENERATE, tenant="bob"))
    assert reply.status == 200
    assert reply.headers["x-fairqueue-tenant"] == "bob"
    assert 0 <= float(reply.headers["x-fairqueue-queue-seconds"]) < 5
    assert engine.truth.find(reply.headers["x-request-id"]).made_tokens == 2


@pytest.mark.parametrize("given", ["two words", "x" * 129, "caf\u00e9"])
async def test_an_odd_request_id_is_replaced(start_proxy: StartProxy, engine: RunningEngine, given: str) -> None:
    stack = await start_proxy(engine.port)
    reply = await ask(stack.data, request("/generate", GENERATE, tenant="bob", headers={"x-request-id": given}))
    assert len(reply.headers["x-request-id"]) == 32
    assert engine.truth.find(reply.headers["x-request-id"]).made_tokens == 2
