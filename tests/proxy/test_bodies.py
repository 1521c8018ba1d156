"""Bodies and the HTTP around them: no JSON, too large, compressed, in pieces, pipelined, malformed, of another age."""

import asyncio
import json

import pytest

from fairqueue_sim import RunningEngine
from proxy.conftest import StartProxy
from proxy.raw_client import RawClient, ask, request
from proxy.samples import sample
from proxy.scripted_engine import LAST_CHUNK, ScriptedEngine, chunk, json_reply, scripted_engine, tgi_token
from proxy_stack import bearer

GENERATE = {"inputs": "hello", "parameters": {"max_new_tokens": 2}}
CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
NESTED = b'{"inputs":' * 100_000


@pytest.mark.parametrize("body", [b"", b"hello", b'{"inputs": "x"', b"[1]", b'"x"', b"\xff\xfe", b'{"a":NaN}', NESTED])
async def test_what_is_no_json_object_is_400_in_the_routes_shape(
    start_proxy: StartProxy, engine: RunningEngine, body: bytes
) -> None:
    stack = await start_proxy(engine.port)
    native = await ask(stack.data, request("/generate", body, tenant="alice"))
    assert (native.status, native.json["error_type"], native.json["reason"]) == (400, "validation", "bad_request")
    chat = await ask(stack.data, request("/v1/chat/completions", body, tenant="alice"))
    assert (chat.status, chat.json["error"]["type"]) == (400, "invalid_request_error")
    assert engine.truth.requests == []
    assert 'fairqueue_requests_total{tenant="alice",outcome="bad_request"} 2' in await stack.metrics()


ABSURD = [
    ("/generate", {"inputs": 7}),
    ("/generate", {"inputs": "x", "parameters": {"max_new_tokens": "many"}}),
    ("/generate", {"inputs": "x", "parameters": {"max_new_tokens": -3}}),
    ("/generate", {"inputs": "x", "parameters": {"max_new_tokens": 10**30}}),
    ("/generate", {"inputs": "x", "parameters": 1}),
    ("/generate", {"inputs": "x", "parameters": {"best_of": 10**30}}),
    ("/generate", {}),
    ("/v1/chat/completions", {"messages": "x"}),
    ("/v1/chat/completions", {**CHAT, "max_tokens": 1e300}),
    ("/v1/completions", {"prompt": [[1, 2]], "max_tokens": 2}),
]


@pytest.mark.parametrize(("path", "body"), ABSURD)
async def test_a_request_that_the_engine_refuses_gets_the_engines_own_words_and_costs_nothing(
    start_proxy: StartProxy, engine: RunningEngine, path: str, body: object
) -> None:
    stack = await start_proxy(engine.port)
    reply = await ask(stack.data, request(path, body, tenant="alice"))
    port = (await start_proxy(engine.port)).data
    direct = await ask(type(port)("127.0.0.1", engine.port), request(path, body))
    assert 400 <= reply.status < 500
    # Where in the body the engine found the fault depends on how its JSON is written.
    assert (reply.status, reply.body.split(b" at line")[0]) == (direct.status, direct.body.split(b" at line")[0])
    assert reply.headers["x-fairqueue-tenant"] == "alice"
    metrics = await stack.metrics()
    assert 'fairqueue_service_total{tenant="alice"} 0\n' in metrics
    assert 'fairqueue_requests_total{tenant="alice",outcome="engine_error"} 1\n' in metrics


async def test_a_stream_that_the_engine_refuses_gets_the_engines_own_event_and_costs_nothing(
    start_proxy: StartProxy, engine: RunningEngine
) -> None:
    stack = await start_proxy(engine.port)
    body = {"inputs": "x", "parameters": {"best_of": 2}}
    reply = await ask(stack.data, request("/generate_stream", body, tenant="alice"))
    assert reply.status == 200
    assert [event["error_type"] for event in reply.events] == ["validation"]
    assert 'fairqueue_service_total{tenant="alice"} 0\n' in await stack.metrics()


async def test_a_limit_above_all_contexts_is_the_engines_business(
    start_proxy: StartProxy, engine: RunningEngine
) -> None:
    """It neither overflows a reservation nor keeps others out."""
    stack = await start_proxy(engine.port)
    endless = {"inputs": "[[eos=3]] x", "parameters": {"max_new_tokens": 10**9}}
    replies = await asyncio.gather(
        *(ask(stack.data, request("/generate_stream", endless, tenant=tenant)) for tenant in ("alice", "bob", "alice"))
    )
    assert [(reply.status, len(reply.events)) for reply in replies] == [(200, 3)] * 3


async def test_a_prompt_beyond_the_context_that_the_engine_told_is_422_at_once(start_proxy: StartProxy) -> None:
    async with scripted_engine(total_slots=2, default_generation_settings={"n_ctx": 100}) as scripted:
        stack = await start_proxy(scripted.port, kind="LlamaCpp")
        reply = await ask(stack.data, request("/completion", {"prompt": [1] * 101}, tenant="alice"))
        assert (reply.status, reply.headers["x-should-retry"]) == (422, "false")
        assert "100" in reply.json["error"]["message"]
        assert scripted.unanswered == 0


async def test_a_body_over_the_limit_is_413_before_it_is_read(start_proxy: StartProxy, engine: RunningEngine) -> None:
    stack = await start_proxy(engine.port, queue={"maxBodyBytes": 2000})
    announced = request("/generate", b"", tenant="alice", headers={"Content-Length": "2001"})
    async with RawClient(stack.data) as client:
        reply = await client.ask(announced)
    assert (reply.status, reply.headers["x-should-retry"]) == (413, "false")
    assert reply.headers["connection"] == "close"
    assert reply.json["reason"] == "too_large"


async def test_a_body_at_the_limit_is_taken(start_proxy: StartProxy, engine: RunningEngine) -> None:
    stack = await start_proxy(engine.port, queue={"maxBodyBytes": 2000})
    body = json.dumps(GENERATE).encode().ljust(2000)
    assert (await ask(stack.data, request("/generate", body, tenant="alice"))).status == 200


async def test_who_asks_first_is_told_413_instead_of_100(start_proxy: StartProxy, engine: RunningEngine) -> None:
    stack = await start_proxy(engine.port, queue={"maxBodyBytes": 2000})
    async with RawClient(stack.data) as client:
        client.send(
            request("/generate", b"", tenant="alice", headers={"Content-Length": "3000", "Expect": "100-continue"})
        )
        assert (await client.head())[0] == 413


@pytest.mark.parametrize("headers", [{"Authorization": "Bearer nobodys"}, {"Content-Encoding": "gzip"}])
async def test_who_asks_first_and_will_be_refused_is_not_told_100(
    start_proxy: StartProxy, engine: RunningEngine, headers: dict[str, str]
) -> None:
    stack = await start_proxy(engine.port)
    async with RawClient(stack.data) as client:
        asking = {**bearer("alice"), "Content-Length": "50", "Expect": "100-continue", **headers}
        client.send(request("/generate", b"", headers=asking))
        assert (await client.head())[0] in (400, 401)


async def test_who_asks_first_is_told_100_and_then_answered(start_proxy: StartProxy, engine: RunningEngine) -> None:
    stack = await start_proxy(engine.port)
    body = json.dumps(GENERATE).encode()
    async with RawClient(stack.data) as client:
        asking = {"Content-Length": str(len(body)), "Expect": "100-continue"}
        client.send(request("/generate", b"", tenant="alice", headers=asking))
        assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        reply = await client.ask(body)
        assert reply.status == 200
        assert reply.json["generated_text"]
        # The connection is in order for the next.
        assert (await client.ask(request("/generate", GENERATE, tenant="alice"))).status == 200


async def test_a_body_in_chunks_is_read_without_a_length(start_proxy: StartProxy, scripted: ScriptedEngine) -> None:
    stack = await start_proxy(scripted.port)
    async with RawClient(stack.data) as client:
        client.send(_chunked_head())
        for piece in (b'{"inputs": ', b'"hello"', b"}"):
            client.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        client.send(b"0\r\n\r\n")
        play = await scripted.play()
        assert play.json == {"inputs": "hello"}
        assert play.headers["content-length"] == str(len(play.body))
        play.answer(json_reply({"generated_text": "x"}))
        assert (await client.reply()).json == {"generated_text": "x"}


async def test_a_body_in_chunks_is_413_as_soon_as_it_is_over_the_limit(
    start_proxy: StartProxy, engine: RunningEngine
) -> None:
    stack = await start_proxy(engine.port, queue={"maxBodyBytes": 2000})
    async with RawClient(stack.data) as client:
        client.send(_chunked_head())
        client.send(b"800\r\n" + b" " * 2048 + b"\r\n")
        reply = await client.reply()
        assert reply.status == 413
        assert reply.headers["connection"] == "close"


async def test_a_body_whose_chunks_are_broken_is_400(start_proxy: StartProxy, engine: RunningEngine) -> None:
    stack = await start_proxy(engine.port)
    async with RawClient(stack.data) as client:
        client.send(_chunked_head())
        client.send(b"5\r\nhello\r\n")
        await asyncio.sleep(0.02)
        client.send(b"XX\r\n")
        assert (await client.reply()).status == 400
    assert 'outcome="bad_request"} 1\n' in await stack.metrics()


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "zstd"])
async def test_a_compressed_body_is_400(start_proxy: StartProxy, engine: RunningEngine, coding: str) -> None:
    """A few bytes could become gigabytes, and the proxy would have to look inside."""
    stack = await start_proxy(engine.port)
    data = request("/v1/chat/completions", b"\x1f\x8b", tenant="alice", headers={"Content-Encoding": coding})
    reply = await ask(stack.data, data)
    assert (reply.status, reply.json["error"]["type"]) == (400, "invalid_request_error")
    assert "compress" in reply.json["error"]["message"]


@pytest.mark.parametrize("path", ["/generate", "/tokenize"], ids=["metered", "identified"])
@pytest.mark.parametrize("coding", ["gzip, chunked", "GZIP,chunked", "deflate, gzip, chunked", "gzip"])
async def test_a_transfer_coding_other_than_chunked_is_400_and_goes_nowhere(
    start_proxy: StartProxy, scripted: ScriptedEngine, coding: str, path: str
) -> None:
    """The chunks would be sent on unpacked, and read by the engine as if they had been plain."""
    stack = await start_proxy(scripted.port)
    head = request(path, tenant="alice", headers={"Content-Length": "", "Transfer-Encoding": coding})
    async with RawClient(stack.data) as client:
        client.send(head + chunk(b"{}") + LAST_CHUNK)
        reply = await client.reply()
        assert await client.rest() == b""
    assert reply.status == 400
    assert b"bad_request" in reply.body
    assert scripted.unanswered == 0


async def test_codings_may_be_spelled_in_any_case(start_proxy: StartProxy, engine: RunningEngine) -> None:
    stack = await start_proxy(engine.port)
    body = json.dumps(GENERATE).encode()
    headers = {"Content-Length": "", "Transfer-Encoding": " Chunked", "Content-Encoding": "Identity"}
    data = request("/generate", tenant="alice", headers=headers) + chunk(body) + LAST_CHUNK
    assert (await ask(stack.data, data)).status == 200


@pytest.mark.parametrize("content_type", ["Text/Event-Stream", "TEXT/EVENT-STREAM; charset=utf-8"])
async def test_an_engines_stream_is_one_however_it_is_spelled(
    start_proxy: StartProxy, scripted: ScriptedEngine, content_type: str
) -> None:
    stack = await start_proxy(scripted.port)
    head = f"HTTP/1.1 200 OK\r\ncontent-TYPE: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    async with RawClient(stack.data) as client:
        client.send(request("/generate_stream", GENERATE, tenant="alice"))
        play = await scripted.play()
        play.write(head + tgi_token("a"))
        assert (await client.head())[1]["content-type"] == content_type
        # It comes at once, and is counted as it comes.
        await client.until(b"\n\n")
        assert sample(await stack.metrics(), "tokens_total", tenant="alice", kind="output") == 1
        play.answer(tgi_token("b", last=True) + LAST_CHUNK)
        await client.until(LAST_CHUNK)


async def test_requests_one_behind_the_other_are_answered_in_order(
    start_proxy: StartProxy, engine: RunningEngine
) -> None:
    stack = await start_proxy(engine.port)
    async with RawClient(stack.data) as client:
        bodies = [{"inputs": f"[[word=w{number}]] x", "parameters": {"max_new_tokens": 1}} for number in range(6)]
        client.send(b"".join(request("/generate", body, tenant="alice") for body in bodies))
        assert [(await client.reply()).json["generated_text"] for _ in bodies] == [f" w{n}" for n in range(6)]


async def test_a_client_of_http_1_0_gets_its_reply_without_chunks(
    start_proxy: StartProxy, engine: RunningEngine
) -> None:
    stack = await start_proxy(engine.port)
    plain = await ask(stack.data, request("/generate", GENERATE, tenant="alice", version="1.0"))
    assert plain.status == 200
    assert plain.json["generated_text"]
    stream = await ask(stack.data, request("/generate_stream", GENERATE, tenant="alice", version="1.0"))
    assert "transfer-encoding" not in stream.headers
    assert "content-length" not in stream.headers
    assert [event["index"] for event in stream.events] == [1, 2]


SMUGGLED = {
    "two lengths": {"Content-Length": "5\r\nContent-Length: 6"},
    "length and chunks": {"Content-Length": "5", "Transfer-Encoding": "chunked"},
    "chunks in disguise": {"Content-Length": "", "Transfer-Encoding": "xchunked"},
    "negative length": {"Content-Length": "-5"},
    "length with a sign": {"Content-Length": "+5"},
    "folded header": {"X-Odd": "a\r\n b"},
    "space before the colon": {"Content-Length ": "5"},
    "control character": {"X-Odd": "a\x01b"},
    "key with a control character": {"Authorization": "Bearer key-of-alice\x01"},
    "many headers": {f"X-{number}": "x" for number in range(200)},
    "long header": {"X-Long": "x" * 10_000},
    "future version": {"X-Version": "is set below"},
}


@pytest.mark.parametrize("name", SMUGGLED)
async def test_what_can_be_read_in_two_ways_or_never_ends_is_refused_and_logged_without_its_bytes(
    start_proxy: StartProxy, engine: RunningEngine, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    stack = await start_proxy(engine.port)
    data = request("/generate", b"hello", tenant="alice", headers=SMUGGLED[name])
    if name == "future version":
        data = data.replace(b"HTTP/1.1", b"HTTP/3.7")
    with caplog.at_level("INFO"):
        async with RawClient(stack.data) as client:
            reply = await client.ask(data)
            assert await client.rest() == b""
    assert reply.status == (431 if name in ("many headers", "long header") else 400)
    assert reply.json["error"]["reason"] == "bad_request"
    assert reply.headers["server"] == "fairqueue"
    assert 'fairqueue_requests_total{tenant="",outcome="bad_request"} 1\n' in await stack.metrics()
    assert engine.truth.requests == []
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "key-of-alice" not in caplog.text
    # Nobody else is touched.
    assert (await ask(stack.data, request("/generate", GENERATE, tenant="alice"))).status == 200


async def test_usage_that_only_the_proxy_asked_for_is_taken_out_again(
    start_proxy: StartProxy, engine: RunningEngine
) -> None:
    stack = await start_proxy(engine.port)
    stream = {**CHAT, "stream": True}
    unasked = await ask(stack.data, request("/v1/chat/completions", stream, tenant="alice"))
    assert not any("usage" in event and event["usage"] for event in unasked.events if isinstance(event, dict))
    assert unasked.events[-1] == "[DONE]"
    asked = {**stream, "stream_options": {"include_usage": True}}
    with_usage = await ask(stack.data, request("/v1/chat/completions", asked, tenant="alice"))
    usages = [event["usage"] for event in with_usage.events if isinstance(event, dict) and event.get("usage")]
    assert [usage["completion_tokens"] for usage in usages] == [2]
    # Charged alike: the engine had told both times.
    prompt = usages[0]["prompt_tokens"]
    assert f'fairqueue_service_total{{tenant="alice"}} {2 * (prompt + 2 * 2)}\n' in await stack.metrics()


async def test_details_that_only_the_proxy_asked_for_are_taken_out_again(
    start_proxy: StartProxy, engine: RunningEngine
) -> None:
    stack = await start_proxy(engine.port)
    unasked = await ask(stack.data, request("/generate_stream", GENERATE, tenant="alice"))
    assert [event["details"] for event in unasked.events] == [None, None]
    asked = {**GENERATE, "parameters": {"max_new_tokens": 2, "details": True}}
    with_details = await ask(stack.data, request("/generate_stream", asked, tenant="alice"))
    assert with_details.events[-1]["details"]["generated_tokens"] == 2


def _chunked_head() -> bytes:
    head = request("/generate", tenant="alice", headers={"Content-Length": "", "Transfer-Encoding": "chunked"})
    assert head.endswith(b"\r\n\r\n")
    return head
