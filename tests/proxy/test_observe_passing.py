"""What is passed on under `mode: Observe`, metered or not: nothing of it is held, and it is what it was."""

import asyncio
import tracemalloc
from contextlib import AsyncExitStack

import pytest

from fairqueue_proxy import drain as drain_module
from fairqueue_proxy import passing
from proxy.changing import STREAM
from proxy.conftest import StartProxy, Until
from proxy.crowd import ONE_AT_A_TIME, Crowd, generate, occupy
from proxy.observing import DONE, observing, relayed
from proxy.raw_client import RawClient, ask, request
from proxy.samples import sample, samples
from proxy.scripted_engine import LAST_CHUNK, STREAM_HEAD, ScriptedEngine, chunk, event, json_reply, tgi_token

MEBIBYTE = 1 << 20


@pytest.mark.parametrize("tenant", ["alice", None])
async def test_no_body_is_held_while_the_engine_works_on_it(
    start_proxy: StartProxy, scripted: ScriptedEngine, tenant: str | None
) -> None:
    stack = await observing(start_proxy, scripted)
    plays = []
    async with AsyncExitStack() as clients:
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(8):
            client = await clients.enter_async_context(RawClient(stack.data))
            await client.send_all(request(STREAM, generate("x" * 2 * MEBIBYTE), tenant=tenant))
            play = await scripted.play()
            play.body = b""
            plays.append(play)
        held = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        for play in plays:
            play.answer(STREAM_HEAD + tgi_token("x", last=True) + LAST_CHUNK)
    assert held < 4 * MEBIBYTE, f"{held / MEBIBYTE:.1f} MiB of 16"


async def test_strangers_who_send_without_end_keep_nobody_out(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until
) -> None:
    bounds = {"maxBytes": MEBIBYTE, "maxBytesPerTenant": MEBIBYTE}
    stack = await observing(start_proxy, scripted, queue=bounds)
    assert stack.proxy is not None
    room = stack.proxy.runtime.room
    async with RawClient(stack.data) as first, RawClient(stack.data) as second:
        for client in (first, second):
            held = room.held_bytes
            head = request("/generate", headers={"Content-Length": str(MEBIBYTE)})
            await client.send_all(head + b" " * (MEBIBYTE // 2))
            await until(lambda: room.held_bytes >= held + MEBIBYTE // 2)  # noqa: B023
        _, reply = await relayed(stack, scripted, request("/generate", generate(), tenant="alice"), json_reply(DONE))
        assert reply.status == 200
        replies = {asyncio.create_task(client.reply()) for client in (first, second)}
        done, waiting = await asyncio.wait(replies, return_when=asyncio.FIRST_COMPLETED)
        (refused,) = done
        assert (refused.result().status, refused.result().json["reason"]) == (503, "queue_full")
        for task in waiting:
            task.cancel()


PATHS = {"metered": "/generate", "no JSON": "/generate", "identified": "/chat_tokenize", "free": "/health"}


@pytest.mark.parametrize("what", [*PATHS, "stranger"])
async def test_the_clients_request_id_goes_both_ways(
    start_proxy: StartProxy, scripted: ScriptedEngine, what: str
) -> None:
    stack = await observing(start_proxy, scripted)
    tenant = None if what == "stranger" else "alice"
    body = b"{" if what == "no JSON" else generate()
    headers = {"X-Request-Id": "mine"}
    if what == "free":
        scripted.answers["GET /health"] = json_reply({})
        reply = await ask(stack.data, request("/health", method="GET", headers=headers))
        assert b"X-Request-Id: mine" in scripted.asked[-1]
    else:
        data = request(PATHS.get(what, "/generate"), body, tenant=tenant, headers=headers)
        play, reply = await relayed(stack, scripted, data, json_reply(DONE))
        assert play.headers["x-request-id"] == "mine"
    assert reply.headers["x-request-id"] == "mine"
    assert "x-fairqueue-queue-seconds" not in reply.headers


async def test_an_engine_that_shares_ids_gets_the_clients_own(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await observing(start_proxy, scripted, kind="VLLM")
    data = request("/v1/completions", {"prompt": "x"}, tenant="alice", headers={"X-Request-Id": "mine"})
    play, _ = await relayed(stack, scripted, data, json_reply({"choices": []}))
    assert play.headers["x-request-id"] == "mine"


async def test_an_identified_route_may_take_as_long_as_it_likes(
    start_proxy: StartProxy, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passing, "ANSWER_SECONDS", 0.05)
    stack = await observing(start_proxy, scripted)
    asking = asyncio.create_task(ask(stack.data, request("/chat_tokenize", generate(), tenant="alice")))
    play = await scripted.play()
    await asyncio.sleep(0.1)
    play.answer(json_reply(DONE))
    assert (await asking).status == 200


@pytest.mark.parametrize("tenant", ["alice", None])
async def test_sound_is_relayed_as_it_is_made(
    start_proxy: StartProxy, scripted: ScriptedEngine, tenant: str | None
) -> None:
    stack = await observing(start_proxy, scripted, kind="OpenAI")
    async with RawClient(stack.data) as client:
        client.send(request("/v1/audio/speech", {"input": "x"}, tenant=tenant))
        play = await scripted.play()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n\r\n"
        play.write(head + chunk(b"first"))
        assert (await client.until(b"first\r\n")).startswith(b"HTTP/1.1 200")
        play.answer(chunk(b"second") + LAST_CHUNK)
        await client.until(b"second\r\n0\r\n\r\n")


async def test_a_prompt_that_was_counted_is_charged_though_the_engine_refused_then(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    usage = {"prompt_tokens": 50, "completion_tokens": 0, "total_tokens": 50}
    counted = event({"id": "c", "choices": [{"index": 0, "text": ""}], "usage": usage})
    refused = event({"error": {"message": "bad", "type": "BadRequestError", "code": 400}})
    stack = await observing(start_proxy, scripted, kind="VLLM", backpressure=ONE_AT_A_TIME)
    async with Crowd(stack) as crowd:
        await crowd.join("occupant", "bob", {"prompt": "x"}, path="/v1/completions")
        occupant = await scripted.play()
        data = request("/v1/completions", {"prompt": "x", "stream": True}, tenant="alice")
        await relayed(stack, scripted, data, STREAM_HEAD + counted + refused + LAST_CHUNK)
        assert sample(await stack.metrics(), "service_total", tenant="alice") == 50
        occupant.answer(json_reply({"choices": []}))
        assert await crowd.status("occupant") == 200


async def test_bytes_are_let_go_when_the_turn_comes_after_the_replys_head(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until
) -> None:
    stack = await observing(start_proxy, scripted, backpressure=ONE_AT_A_TIME)
    assert stack.proxy is not None
    dispatcher = stack.proxy.dispatcher
    async with Crowd(stack) as crowd:
        occupant = await occupy(crowd, scripted, "bob")
        await crowd.join("stream", "alice", path=STREAM)
        play = await scripted.play()
        play.write(STREAM_HEAD)
        await until(lambda: any(job.replied for job in dispatcher.jobs))
        occupant.answer(json_reply(DONE))
        assert await crowd.status("occupant") == 200
        await until(lambda: dispatcher.backlog.queued == 0)
        assert dispatcher.backlog.held_bytes == 0
        play.answer(tgi_token("x", last=True) + LAST_CHUNK)
        assert await crowd.status("stream") == 200


@pytest.mark.parametrize("tenant", ["alice", None])
async def test_a_wait_is_told_only_of_who_would_have_waited_to_its_end(
    start_proxy: StartProxy, scripted: ScriptedEngine, tenant: str | None
) -> None:
    tenants = [{"name": "alice", "limits": {"maxQueued": 0}}, {"name": "bob"}]
    stack = await observing(start_proxy, scripted, tenants=tenants, backpressure=ONE_AT_A_TIME)
    async with Crowd(stack) as crowd:
        occupant = await occupy(crowd, scripted, "bob")
        await relayed(stack, scripted, request("/generate", generate(), tenant="alice"), json_reply(DONE))
        occupant.answer(json_reply(DONE))
        assert await crowd.status("occupant") == 200
    await scripted.stop()
    assert (await ask(stack.data, request("/generate", generate(), tenant="bob"))).status == 503
    counts = {
        dict(labels)["tenant"]: value
        for (name, labels), value in samples(await stack.metrics()).items()
        if name == "fairqueue_queue_seconds_count"
    }
    assert counts == {"bob": 1}


async def test_a_broken_reply_to_what_can_not_be_read_is_an_engine_error(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await observing(start_proxy, scripted)
    async with RawClient(stack.data) as client:
        client.send(request("/generate", b"{", tenant="alice"))
        play = await scripted.play()
        play.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal")
        await client.until(b"hal")
        play.reset()
        await client.rest()
    assert sample(await stack.metrics(), "requests_total", tenant="alice", outcome="engine_error") == 1


async def test_a_drain_waits_for_streams_of_strangers_and_for_a_quiet_moment(
    start_proxy: StartProxy, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr(drain_module, "LOOK_SECONDS", 0.005)
    monkeypatch.setattr(drain_module, "QUIET_SECONDS", 0.3)
    stack = await observing(start_proxy, scripted)
    assert stack.proxy is not None
    drain = stack.proxy.drain
    async with RawClient(stack.data) as client:
        client.send(request(STREAM, generate()))
        play = await scripted.play()
        play.write(STREAM_HEAD + tgi_token("a"))
        await client.until(b"\n\n\r\n")
        drain.begin()
        await relayed(stack, scripted, request("/generate", generate()), json_reply(DONE))
        await until(lambda: drain._refusing)
        assert not drain.over.is_set()
        # What comes now is nobody's to refuse.
        _, reply = await relayed(stack, scripted, request("/generate", generate()), json_reply(DONE))
        assert reply.status == 200
        assert not drain.over.is_set()
        play.answer(tgi_token("x", last=True) + LAST_CHUNK)
        await client.until(b"0\r\n\r\n")
        await until(drain.over.is_set)
