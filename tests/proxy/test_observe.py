"""`mode: Observe`: every request goes to the engine at once and as it came; what would have become of it is counted.

What the shadow queue decides is in `test_shadow`.
"""

import asyncio
import json

import pytest

from fairqueue_proxy import passing
from proxy.changing import STREAM
from proxy.conftest import StartProxy
from proxy.crowd import ONE_AT_A_TIME, Crowd, generate
from proxy.observing import DONE, OVERLOADED, observing, relayed, would_be
from proxy.raw_client import RawClient, ask, request
from proxy.samples import sample, samples
from proxy.scripted_engine import LAST_CHUNK, STREAM_HEAD, ScriptedEngine, json_reply
from proxy_stack import key_of

CHAT = {"messages": [{"role": "user", "content": "x"}]}


async def test_nobody_waits_and_nobody_is_refused_for_want_of_room(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    tenants = [{"name": "alice", "limits": {"maxQueued": 1, "maxInFlight": 1, "tokensPerMinute": 1}}, {"name": "bob"}]
    queue = {"maxRequests": 2, "timeout": "1s"}
    stack = await observing(start_proxy, scripted, tenants=tenants, backpressure=ONE_AT_A_TIME, queue=queue)
    async with Crowd(stack) as crowd:
        for number in range(6):
            await crowd.join(f"alice-{number}", "alice")
        plays = [await scripted.play() for _ in range(6)]
        await crowd.join("bob", "bob")
        plays.append(await scripted.play())
        assert len(crowd.waiting()) == 7
        for play in plays:
            play.answer(json_reply(DONE))
        assert {await crowd.status(name) for name in crowd.tasks} == {200}
    text = await stack.metrics()
    # One is in the engine, one may be queued, four are too many.
    assert would_be(text) == {("alice", "tenant_queue_full"): 4}
    assert sample(text, "requests_total", tenant="alice", outcome="completed") == 6
    assert sample(text, "requests_total", tenant="bob", outcome="completed") == 1


async def test_the_engine_sees_what_the_client_sent(start_proxy: StartProxy, scripted: ScriptedEngine) -> None:
    stack = await observing(start_proxy, scripted, kind="VLLM", engine_key="of-the-engine")
    body = b'{ "prompt": "x", "max_tokens": 2, "priority": -5, "max_tokens":3, "request_id": "mine" }'
    headers = {"X-Request-Priority": "1", "X-Data-Parallel-Rank": "2"}
    data = request("//v1/./completions?a=%2f", body, tenant="alice", headers=headers)
    answer = json_reply({"choices": [{"text": "x"}], "usage": {"prompt_tokens": 5, "completion_tokens": 2}})
    play, reply = await relayed(stack, scripted, data, answer)
    assert play.body == body
    assert play.head.startswith(b"POST //v1/./completions?a=%2f HTTP/1.1\r\n")
    assert play.headers["authorization"] == f"Bearer {key_of('alice')}"
    assert (play.headers["x-request-priority"], play.headers["x-data-parallel-rank"]) == ("1", "2")
    assert reply.status == 200
    assert sample(await stack.metrics(), "service_total", tenant="alice") == 5 + 2 * 2


async def test_token_counts_are_asked_for_and_taken_out_again(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await observing(start_proxy, scripted, kind="VLLM")
    body = b'{"prompt":"x" , "stream":true, "priority":-5,"stop":["\\u0041"],"vllm_xargs":{"kv_transfer_params":1}}'
    usage = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
    events = [
        {"id": "c", "choices": [{"index": 0, "text": "a", "finish_reason": "stop"}], "usage": usage},
        {"id": "c", "choices": [], "usage": usage},
    ]
    sent = b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in events) + b"data: [DONE]\n\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(sent)
    play, reply = await relayed(stack, scripted, request("/v1/completions", body, tenant="alice"), head + sent)
    assert play.json == json.loads(body) | {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    # Whatever else is in it keeps its bytes.
    assert b'["\\u0041"]' in play.body
    assert [each if isinstance(each, str) else each.get("usage") for each in reply.events] == [None, "[DONE]"]
    assert sample(await stack.metrics(), "tokens_total", tenant="alice", kind="output") == 1


WOULD_BE_REFUSED = {
    "no key": (request("/generate", generate()), ("", "unauthenticated")),
    "a wrong key": (request("/generate", generate(), headers={"Authorization": "Bearer x"}), ("", "unauthenticated")),
    "a key twice": (
        request("/generate", generate(), tenant="alice", headers={"authorization": "Bearer x"}),
        ("", "bad_request"),
    ),
    "a route that is refused": (request("/shutdown", {}, tenant="alice"), ("", "forbidden_route")),
    "a path that is none": (request("/%00", {}, tenant="alice"), ("", "forbidden_route")),
    "a body that is no JSON": (request("/generate", b"{", tenant="alice"), ("alice", "bad_request")),
    "a body of another encoding": (
        request("/generate", b"\x1f\x8b", tenant="alice", headers={"Content-Encoding": "gzip"}),
        ("alice", "bad_request"),
    ),
}


@pytest.mark.parametrize(("data", "label"), WOULD_BE_REFUSED.values(), ids=WOULD_BE_REFUSED)
async def test_what_would_be_refused_is_the_engines_to_answer(
    start_proxy: StartProxy, scripted: ScriptedEngine, data: bytes, label: tuple[str, str]
) -> None:
    stack = await observing(start_proxy, scripted)
    play, reply = await relayed(stack, scripted, data, json_reply({"said": "by the engine"}, 418))
    head, body = data.split(b"\r\n\r\n", 1)
    assert play.head.split(b"\r\n")[0] == head.split(b"\r\n")[0]
    assert play.body == body
    assert (reply.status, reply.json) == (418, {"said": "by the engine"})
    assert would_be(await stack.metrics()) == {label: 1}


async def test_what_is_no_json_is_metered_as_it_is(start_proxy: StartProxy, scripted: ScriptedEngine) -> None:
    stack = await observing(start_proxy, scripted, kind="OpenAI")
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    data = request("/v1/audio/transcriptions", b"--x\r\n\xff\xfe\r\n--x--", tenant="alice", headers=headers)
    play, reply = await relayed(stack, scripted, data, json_reply({"text": "hello"}))
    assert play.body == b"--x\r\n\xff\xfe\r\n--x--"
    assert (reply.status, would_be(await stack.metrics())) == (200, {})


async def test_another_method_is_the_engines_to_answer(start_proxy: StartProxy, scripted: ScriptedEngine) -> None:
    stack = await observing(start_proxy, scripted)
    scripted.answers["DELETE /generate"] = json_reply({"said": "by the engine"}, 405)
    reply = await ask(stack.data, request("/generate", method="DELETE", tenant="alice"))
    assert (reply.status, reply.json) == (405, {"said": "by the engine"})
    assert would_be(await stack.metrics()) == {("", "forbidden_route"): 1}


async def test_a_prompt_beyond_the_context_is_the_engines_to_answer(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    scripted.info = {"total_slots": 4, "default_generation_settings": {"n_ctx": 4096}}
    stack = await observing(start_proxy, scripted, kind="LlamaCpp")
    data = request("/v1/completions", {"prompt": [1] * 5000}, tenant="alice")
    _, reply = await relayed(stack, scripted, data, json_reply({"said": "by the engine"}, 400))
    assert (reply.status, reply.json) == (400, {"said": "by the engine"})
    assert would_be(await stack.metrics()) == {("alice", "too_large"): 1}


@pytest.mark.parametrize("answer", [OVERLOADED, json_reply({"error": "no"}, 503)], ids=["429", "503"])
async def test_an_engine_that_refuses_is_not_asked_again(
    start_proxy: StartProxy, scripted: ScriptedEngine, answer: bytes
) -> None:
    stack = await observing(start_proxy, scripted)
    _, reply = await relayed(stack, scripted, request("/generate", generate(), tenant="alice"), answer)
    assert reply.status == int(answer.split()[1])
    assert reply.body == answer.split(b"\r\n\r\n", 1)[1]
    assert scripted.unanswered == 0
    text = await stack.metrics()
    assert sample(text, "service_total", tenant="alice") == 0
    assert sample(text, "requests_total", tenant="alice", outcome="engine_error") == 1


async def test_a_refusal_inside_of_a_stream_is_passed_on_too(start_proxy: StartProxy, scripted: ScriptedEngine) -> None:
    stack = await observing(start_proxy, scripted)
    event = b'data: {"error":"Model is overloaded","error_type":"overloaded"}\n\n'
    answer = STREAM_HEAD + b"%x\r\n%s\r\n" % (len(event), event) + LAST_CHUNK
    _, reply = await relayed(stack, scripted, request(STREAM, generate(), tenant="alice"), answer)
    assert (reply.status, reply.body) == (200, event)
    assert scripted.unanswered == 0


async def test_free_routes_show_their_credentials_and_the_engines_own_queue(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await observing(start_proxy, scripted, backpressure=ONE_AT_A_TIME, engine_key="of-the-engine")
    scripted.metrics = b"# TYPE tgi_queue_size gauge\ntgi_queue_size 3\n"
    async with Crowd(stack) as crowd:
        for name in ("first", "second"):
            await crowd.join(name, "alice")
        plays = [await scripted.play(), await scripted.play()]
        assert sample(await stack.metrics(), "queue_requests", tenant="alice") == 1
        reply = await ask(stack.data, request("/metrics", method="GET", tenant="alice"))
        assert reply.body == scripted.metrics
        assert f"Bearer {key_of('alice')}".encode() in scripted.asked[-1]
        for play in plays:
            play.answer(json_reply(DONE))
        assert {await crowd.status("first"), await crowd.status("second")} == {200}


async def test_an_engine_that_is_down_is_answered_for_with_503(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await observing(start_proxy, scripted)
    await scripted.stop()
    reply = await ask(stack.data, request("/generate", generate(), tenant="alice"))
    assert (reply.status, reply.json["reason"]) == (503, "engine_unavailable")
    unidentified = await ask(stack.data, request("/generate", generate()))
    assert unidentified.status == 503


@pytest.mark.parametrize("tenant", ["alice", None])
async def test_an_engine_that_goes_before_it_has_answered_is_answered_for_with_502(
    start_proxy: StartProxy, scripted: ScriptedEngine, tenant: str | None
) -> None:
    stack = await observing(start_proxy, scripted)
    data = request("/generate", generate(), tenant=tenant)
    await relayed(stack, scripted, data, json_reply(DONE))
    asking = asyncio.create_task(ask(stack.data, data))
    await scripted.play()
    await scripted.stop()
    reply = await asking
    assert (reply.status, reply.json["reason"]) == (502, "engine_error")


async def test_what_is_passed_on_unread_may_take_as_long_as_it_likes(
    start_proxy: StartProxy, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passing, "ANSWER_SECONDS", 0.05)
    stack = await observing(start_proxy, scripted)
    for data in (request("/generate", generate()), request("/generate", b"{", tenant="alice")):
        asking = asyncio.create_task(ask(stack.data, data))
        play = await scripted.play()
        await asyncio.sleep(0.1)
        play.answer(json_reply(DONE))
        assert (await asking).status == 200


@pytest.mark.parametrize(
    ("queue", "status", "reason"),
    [
        ({"maxBodyBytes": 65536}, 413, "too_large"),
        ({"maxBytes": 1 << 20, "maxBytesPerTenant": 1 << 20}, 503, "queue_full"),
    ],
    ids=["a body over its limit", "more than may be held"],
)
@pytest.mark.parametrize("tenant", ["alice", None])
async def test_what_cannot_be_held_is_refused_all_the_same(
    start_proxy: StartProxy,
    scripted: ScriptedEngine,
    queue: dict[str, int],
    status: int,
    reason: str,
    tenant: str | None,
) -> None:
    stack = await observing(start_proxy, scripted, queue=queue)
    async with RawClient(stack.data) as client:
        head = request("/generate", b"", tenant=tenant, headers={"Content-Length": "", "Transfer-Encoding": "chunked"})
        client.send(head + b"200000\r\n" + b" " * 0x200000)
        reply = await client.reply()
    assert (reply.status, reply.json["reason"]) == (status, reason)
    assert stack.proxy is not None
    assert stack.proxy.runtime.room.held_bytes == 0


async def test_a_stream_that_waits_in_the_engine_gets_no_early_answer(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await observing(start_proxy, scripted, queue={"holdHeaders": "0s"})
    async with RawClient(stack.data) as client:
        client.send(request(STREAM, generate(), tenant="alice"))
        play = await scripted.play()
        await asyncio.sleep(0.05)
        play.answer(json_reply({"error": "bad", "error_type": "validation"}, 422))
        assert (await client.reply()).status == 422


async def test_the_log_says_what_would_have_become_of_a_request(
    start_proxy: StartProxy, scripted: ScriptedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "fairqueue.requests")
    stack = await observing(start_proxy, scripted)
    await relayed(stack, scripted, request("/generate", generate(), tenant="alice"), json_reply(DONE))
    await relayed(stack, scripted, request("/generate", generate()), json_reply(DONE))
    fields = [record.__dict__["fields"] for record in caplog.records if record.name == "fairqueue.requests"]
    assert [(each["tenant"], each["would_be"], each["status"]) for each in fields] == [
        ("alice", None, 200),
        ("", "unauthenticated", 200),
    ]


async def test_the_mode_in_force_is_told(start_proxy: StartProxy, scripted: ScriptedEngine) -> None:
    stack = await observing(start_proxy, scripted)
    assert {
        dict(labels)["mode"] for (name, labels) in samples(await stack.metrics()) if name.endswith("config_info")
    } == {"Observe"}
