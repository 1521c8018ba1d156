"""The engine's own key: the engine sees it on every way in, in place of whatever the client showed, and nobody else
ever sees it."""

import logging
from pathlib import Path

import pytest

from fairqueue_api import SecretError
from fairqueue_api.json_lines import JsonLines
from proxy.conftest import StartProxy
from proxy.crowd import generate
from proxy.raw_client import RawClient, ask, request
from proxy.scripted_engine import ScriptedEngine, json_reply
from proxy_stack import Stack, document_of, key_of, serving_proxy

ENGINE_KEY = "sk-engine-7f3a9c"
AUTHORIZED = f"authorization: bearer {ENGINE_KEY}".encode()

GENERATED = json_reply({"generated_text": "x"})
CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
EITHER_HEADER = {
    "sources": [
        {"name": "own", "type": "APIKey", "apiKey": {"header": "X-Api-Key"}},
        {"name": "usual", "type": "APIKey", "apiKey": {}},
    ]
}


def authorizations(head: bytes) -> list[bytes]:
    return [line for line in head.lower().split(b"\r\n") if line.startswith(b"authorization:")]


def assert_only_the_engines(heads: list[bytes]) -> None:
    assert heads
    for head in heads:
        assert authorizations(head) == [AUTHORIZED]
        assert b"key-of-" not in head


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Authorization": f"Bearer {key_of('alice')}"}, id="in-place-of-the-clients"),
        pytest.param({"AUTHORIZATION": f"bearer {key_of('alice')}"}, id="in-odd-case"),
        pytest.param({"X-Api-Key": key_of("alice")}, id="the-clients-is-elsewhere"),
        pytest.param({"X-Api-Key": key_of("alice"), "Authorization": "Bearer key-of-its-own"}, id="it-shows-two"),
        pytest.param(
            {"Authorization": f"Bearer {key_of('alice')}", "Connection": "Authorization"}, id="it-lists-it-as-its-own"
        ),
    ],
)
async def test_the_engine_sees_its_own_key_and_never_the_clients(
    start_proxy: StartProxy, scripted: ScriptedEngine, headers: dict[str, str]
) -> None:
    stack = await start_proxy(scripted.port, engine_key=ENGINE_KEY, identity=EITHER_HEADER)
    async with RawClient(stack.data) as client:
        client.send(request("/generate", generate(), headers=headers))
        play = await scripted.play()
        play.answer(GENERATED)
        reply = await client.reply()
    assert (reply.status, reply.headers["x-fairqueue-tenant"]) == (200, "alice")
    assert_only_the_engines([play.head])


async def test_what_a_client_shows_in_the_engines_header_is_not_sent_even_where_no_source_reads_it(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await start_proxy(scripted.port, engine_key=ENGINE_KEY, identity={"sources": EITHER_HEADER["sources"][:1]})
    scripted.asked.clear()
    headers = {"X-Api-Key": key_of("alice"), "Authorization": "Bearer key-of-its-own"}
    async with RawClient(stack.data) as client:
        assert (await client.ask(request("/health", method="GET", headers=headers))).status == 200
        client.send(request("/generate", generate(), headers=headers))
        play = await scripted.play()
        play.answer(GENERATED)
        assert (await client.reply()).status == 200
    assert_only_the_engines([*scripted.asked, play.head])


@pytest.mark.parametrize(("kind", "looks"), [("TGI", 3), ("VLLM", 3), ("SGLang", 3), ("LlamaCpp", 3), ("OpenAI", 1)])
async def test_every_look_at_the_engine_shows_the_key(
    start_proxy: StartProxy, scripted: ScriptedEngine, kind: str, looks: int
) -> None:
    await start_proxy(scripted.port, kind=kind, engine_key=ENGINE_KEY)
    assert len(scripted.asked) >= looks
    assert_only_the_engines(scripted.asked)


@pytest.mark.parametrize("path", ["/health", "/info", "/v1/models", "/metrics"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_free_routes_show_the_engines_key_in_place_of_any(
    start_proxy: StartProxy, scripted: ScriptedEngine, path: str, method: str
) -> None:
    stack = await start_proxy(scripted.port, engine_key=ENGINE_KEY, identity=EITHER_HEADER)
    scripted.answers |= {f"HEAD {path}": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}
    scripted.asked.clear()
    for headers in ({}, {"Authorization": f"Bearer {key_of('alice')}", "x-api-key": key_of("bob")}):
        async with RawClient(stack.data) as client:
            client.send(request(path, method=method, headers=headers))
            assert (await client.head())[0] == 200
    mine = [head for head in scripted.asked if head.startswith(f"{method} {path} ".encode())]
    assert len(mine) >= 2
    assert_only_the_engines(mine)


async def test_a_route_that_only_needs_an_identity_shows_the_engines_key(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await start_proxy(scripted.port, engine_key=ENGINE_KEY)
    async with RawClient(stack.data) as client:
        client.send(request("/tokenize", {"inputs": "hello"}, tenant="alice"))
        play = await scripted.play()
        play.answer(json_reply([]))
        assert (await client.reply()).status == 200
    assert_only_the_engines([play.head])


async def test_a_client_that_knows_the_engines_key_is_nobody_by_it(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await start_proxy(scripted.port, engine_key=ENGINE_KEY)
    reply = await ask(stack.data, request("/generate", generate(), headers={"Authorization": f"Bearer {ENGINE_KEY}"}))
    assert reply.status == 401
    assert scripted.unanswered == 0


async def everything_said(stack: Stack, scripted: ScriptedEngine) -> str:
    """All that clients and scrapers can be told: replies, refusals, failures, and the admin ports."""
    said: list[bytes] = []
    async with RawClient(stack.data) as client:
        # The first, on a fresh connection: what fails on one that was idle is sent again.
        client.send(request("/generate", generate(), tenant="alice"))
        (await scripted.play()).reset()
        said.append(repr(await client.reply()).encode())
        for path, body in (("/generate", generate()), ("/v1/chat/completions", CHAT)):
            client.send(request(path, body, tenant="alice"))
            (await scripted.play()).answer(GENERATED)
            said.append(repr(await client.reply()).encode())
    for data in (
        request("/generate", generate()),
        request("/generate", b"{", tenant="alice"),
        request("/abort", {}, tenant="alice"),
        request("/health", method="GET"),
        request("/metrics", method="GET"),
        b"nonsense\r\n\r\n",
    ):
        async with RawClient(stack.data) as client:
            said.append(repr(await client.ask(data)).encode())
    await scripted.stop()
    said.append(repr(await ask(stack.data, request("/health", method="GET"))).encode())
    for address, path in (
        (stack.admin, "/metrics"),
        (stack.admin, "/-/ready"),
        (stack.admin, "/-/config"),
        (stack.local, "/-/queue"),
    ):
        said.append((await stack.get(address, path))[1].encode())
    return b"\n".join(said).decode()


async def test_the_key_is_in_no_reply_no_metric_no_log_and_no_repr(
    start_proxy: StartProxy, scripted: ScriptedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    stack = await start_proxy(scripted.port, engine_key=ENGINE_KEY)
    assert stack.proxy is not None
    said = await everything_said(stack, scripted)
    assert ENGINE_KEY not in said
    assert "engine broke the connection" in said
    assert "engine refuses connections" in said
    logged = [JsonLines().format(record) for record in caplog.records]
    assert len(logged) >= 6
    assert ENGINE_KEY not in "\n".join(logged)
    runtime = stack.proxy.runtime
    assert runtime.engine_key == ENGINE_KEY
    for shown in (runtime, runtime.in_force, runtime.watch, runtime.upstream, stack.proxy):
        assert ENGINE_KEY not in f"{shown!r} {shown}"


async def test_the_command_writes_no_key_to_its_log(tmp_path: Path, scripted: ScriptedEngine) -> None:
    log = tmp_path / "log"
    async with serving_proxy(tmp_path, scripted.port, log, tenants=[{"name": "alice"}], engine_key=ENGINE_KEY) as stack:
        assert ENGINE_KEY not in await everything_said(stack, scripted)
    written = log.read_text()
    assert '"outcome":"engine_error"' in written
    assert ENGINE_KEY not in written
    assert key_of("alice") not in written


def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(tmp_path: Path) -> None:
    with pytest.raises(SecretError) as caught:
        document_of(tmp_path, tenants=[{"name": "alice"}], engine_key="sk-caf\u00e9 secret")
    assert "sk-caf" not in str(caught.value)
    assert "keys" in str(caught.value)
