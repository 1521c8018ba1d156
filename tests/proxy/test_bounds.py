"""Full queues: who is refused, with what, and that a flooder can shut nobody else out."""

import asyncio
import json
import socket
import time
from contextlib import AsyncExitStack

import pytest

from fairqueue_proxy.outcome import Outcome, Refused
from fairqueue_sim import RunningEngine
from proxy.conftest import StartProxy, Until
from proxy.crowd import ONE_AT_A_TIME, Crowd, generate, occupy, serve_in_turn
from proxy.raw_client import RawClient, ask, request
from proxy.scripted_engine import LAST_CHUNK, ScriptedEngine, chunk, json_reply
from proxy_stack import Stack

MEBIBYTE = 1 << 20


@pytest.mark.parametrize(("path", "kind"), [("/generate", "native"), ("/v1/chat/completions", "openai")])
async def test_a_tenant_over_its_own_bound_gets_429_and_is_told_when_to_come_again(
    start_proxy: StartProxy, scripted: ScriptedEngine, path: str, kind: str
) -> None:
    tenants = [{"name": "alice", "limits": {"maxQueued": 2}}, {"name": "bob"}]
    stack = await start_proxy(scripted.port, tenants=tenants, backpressure=ONE_AT_A_TIME)
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted)
        for name in ("first", "second"):
            await crowd.join(name, "alice")
        chat = {"messages": [{"role": "user", "content": "x"}]}
        await crowd.join("third", "alice", chat if kind == "openai" else None, path)
        reply = await crowd.tasks["third"]
        assert reply.status == 429
        assert 1 <= int(reply.headers["retry-after"]) <= 120
        assert reply.headers["x-fairqueue-tenant"] == "alice"
        assert "x-should-retry" not in reply.headers
        if kind == "native":
            assert (reply.json["error_type"], reply.json["reason"]) == ("overloaded", "tenant_queue_full")
        else:
            assert (reply.json["error"]["type"], reply.json["error"]["code"]) == ("overloaded_error", 429)
        # Others are none the worse for it.
        await crowd.join("other", "bob")
        assert crowd.waiting() == ["occupant", "first", "second", "other"]
        await serve_in_turn(scripted, play, 3)
        assert [await crowd.status(name) for name in ("first", "second", "other")] == [200, 200, 200]
    assert 'fairqueue_requests_total{tenant="alice",outcome="tenant_queue_full"} 1\n' in await stack.metrics()


async def test_a_tenant_that_may_queue_nothing_is_served_while_there_is_room(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    tenants = [{"name": "alice", "limits": {"maxQueued": 0}}]
    stack = await start_proxy(scripted.port, tenants=tenants, backpressure=ONE_AT_A_TIME)
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted)
        await crowd.join("second", "alice")
        assert await crowd.status("second") == 429
        await serve_in_turn(scripted, play, 0)
        assert await crowd.status("occupant") == 200


async def test_a_tenant_over_its_bytes_gets_429_while_it_still_sends(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    queue = {"maxBytesPerTenant": MEBIBYTE, "maxBytes": 8 * MEBIBYTE}
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME, queue=queue)
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted)
        await crowd.join("large", "alice", generate("x" * (MEBIBYTE - 2000)))
        half_sent = request("/generate", b" " * 3000, tenant="alice", headers={"Content-Length": "100000"})
        reply = await ask(stack.data, half_sent)
        assert (reply.status, reply.json["reason"]) == (429, "tenant_queue_full")
        # Its bytes are its own: bob's count against bob.
        await crowd.join("other", "bob", generate("x" * 3000))
        assert crowd.waiting() == ["occupant", "large", "other"]
        await serve_in_turn(scripted, play, 2)
        assert [await crowd.status(name) for name in ("large", "other")] == [200, 200]
        # The engine has answered: nothing is held any more, and all its bytes are alice's again.
        await crowd.join("again", "alice", generate("x" * (MEBIBYTE - 2000)))
        (await scripted.play()).answer(json_reply({"generated_text": "x"}))
        assert await crowd.status("again") == 200


async def test_of_a_full_pod_the_newest_request_of_who_has_most_gives_way_to_the_arrival(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME, queue={"maxRequests": 4})
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted)
        for number in range(4):
            await crowd.join(f"flood-{number}", "alice")
        await crowd.join("quiet-0", "bob")
        evicted = await crowd.tasks["flood-3"]
        assert (evicted.status, evicted.json["reason"]) == (503, "queue_full")
        assert evicted.json["error_type"] == "overloaded"
        assert 1 <= int(evicted.headers["retry-after"]) <= 120
        # The flooder's own arrival is now the newest of who has most.
        await crowd.join("flood-4", "alice")
        assert await crowd.status("flood-4") == 503
        await crowd.join("quiet-1", "bob")
        assert await crowd.status("flood-2") == 503
        assert crowd.refused() == {"flood-3": 503, "flood-4": 503, "flood-2": 503}
        order = await serve_in_turn(scripted, play, 4)
        assert sorted(order) == ["flood-0", "flood-1", "quiet-0", "quiet-1"]
        for name in order:
            assert await crowd.status(name) == 200


async def test_most_is_counted_per_weight(start_proxy: StartProxy, scripted: ScriptedEngine) -> None:
    tenants = [{"name": "alice", "weight": 3}, {"name": "bob"}, {"name": "carol"}]
    stack = await start_proxy(scripted.port, tenants=tenants, backpressure=ONE_AT_A_TIME, queue={"maxRequests": 5})
    async with Crowd(stack) as crowd:
        await occupy(crowd, scripted, "carol")
        for number in range(3):
            await crowd.join(f"alice-{number}", "alice")
        for number in range(2):
            await crowd.join(f"bob-{number}", "bob")
        await crowd.join("carol-0", "carol")
        # Three of weight 3 are less than two of weight 1.
        assert await crowd.status("bob-1") == 503
        assert crowd.refused() == {"bob-1": 503}


async def test_a_flood_of_bytes_gives_way_even_while_it_is_still_being_sent(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until
) -> None:
    queue = {"maxBytes": MEBIBYTE, "maxBytesPerTenant": MEBIBYTE}
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME, queue=queue)
    assert stack.proxy is not None
    backlog = stack.proxy.dispatcher.backlog
    async with Crowd(stack) as crowd, RawClient(stack.data) as flooder:
        play = await occupy(crowd, scripted)
        held = backlog.held_bytes
        slow = request("/generate", b" " * 900_000, tenant="alice", headers={"Content-Length": "1000000"})
        await flooder.send_all(slow)
        await until(lambda: backlog.held_bytes == held + 900_000)
        await crowd.join("quiet", "bob", generate("x" * 200_000))
        reply = await flooder.reply()
        assert (reply.status, reply.json["reason"]) == (503, "queue_full")
        assert await serve_in_turn(scripted, play, 1) == ["quiet"]
        assert await crowd.status("quiet") == 200


def begin_in_chunks(stack: Stack, tenant: str, content: bytes) -> socket.socket:
    """A connection on which a body has begun to come whose length nobody knows."""
    connection = socket.create_connection((stack.data.host, stack.data.port))
    headers = {"Content-Length": "", "Transfer-Encoding": "chunked"}
    connection.sendall(request("/generate", tenant=tenant, headers=headers) + chunk(content))
    return connection


async def test_an_eviction_that_meets_the_last_chunk_of_the_evicted_body_is_a_refusal_and_leaves_nothing_behind(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    """Both are there in one turn of the loop: the bytes for which alice has to go, and the end of her body."""
    queue = {"maxBytes": MEBIBYTE, "maxBytesPerTenant": 4 * MEBIBYTE}
    stack = await start_proxy(scripted.port, queue=queue)
    assert stack.proxy is not None
    backlog, loop = stack.proxy.dispatcher.backlog, asyncio.get_running_loop()
    with caplog.at_level("INFO"), begin_in_chunks(stack, "alice", b'{"inputs": "my secret') as alice:
        await until(lambda: backlog.held_bytes > 0)
        alice.sendall(chunk(b"x" * 600_000 + b'"}'))
        await until(lambda: backlog.held_bytes > 600_000)
        with begin_in_chunks(stack, "bob", b'{"inputs": "') as bob:
            bob.sendall(chunk(b"y" * 440_000))
            await until(lambda: backlog.held_bytes > 1_040_000)
            bob.sendall(chunk(b"y" * 20_000))
            alice.sendall(LAST_CHUNK)
            await until(lambda: backlog.held_bytes < 600_000)
            alice.setblocking(False)
            async with asyncio.timeout(5):
                head, _, body = (await loop.sock_recv(alice, 65_536)).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 ")
            assert json.loads(body)["reason"] == "queue_full"
            assert backlog.queued == 0
        await until(lambda: not backlog.waits)
    assert scripted.unanswered == 0
    assert {record.levelname for record in caplog.records} == {"INFO"}
    assert "secret" not in caplog.text


async def test_who_sends_nothing_is_neither_refused_for_bytes_nor_a_shield_for_who_holds_them(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until
) -> None:
    queue = {"maxBytes": MEBIBYTE, "maxBytesPerTenant": 2 * MEBIBYTE}
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME, queue=queue)
    assert stack.proxy is not None
    backlog = stack.proxy.dispatcher.backlog
    async with AsyncExitStack() as exits, Crowd(stack) as crowd:
        await occupy(crowd, scripted, "bob")
        await crowd.join("large", "alice", generate("x" * 900_000))
        # Newer requests of who holds most, of which no byte has come.
        shields = [await exits.enter_async_context(RawClient(stack.data)) for _ in range(30)]
        for shield in shields:
            shield.send(request("/generate", b"", tenant="alice", headers={"Content-Length": "50"}))
        await until(lambda: len(list(backlog.jobs())) == 31)
        bob = await exits.enter_async_context(RawClient(stack.data))
        bob.send(request("/generate", b"", tenant="bob", headers={"Content-Length": "900000"}))
        bobs_bytes = 0
        for _ in range(25):
            bob.send(b" " * 30_000)
            bobs_bytes += 30_000
            await until(lambda bytes_sent=bobs_bytes: took_in(stack, "bob") == bytes_sent)  # type: ignore[misc]
            assert backlog.held_bytes <= MEBIBYTE
        assert await crowd.status("large") == 503
        assert len(list(backlog.jobs())) == 31
    await until(lambda: not backlog.waits)


def took_in(stack: Stack, tenant: str) -> int:
    """Bytes of bodies of a tenant that wait."""
    assert stack.proxy is not None
    return sum(job.held_bytes for job in stack.proxy.dispatcher.backlog.jobs() if job.tenant.name == tenant)


async def test_who_waits_too_long_gets_504_and_is_told_not_to_try_again(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME, queue={"timeout": "0.1s"})
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted)
        await crowd.join("late", "bob")
        await crowd.join("late-chat", "bob", {"messages": []}, "/v1/chat/completions")
        native, chat = await crowd.tasks["late"], await crowd.tasks["late-chat"]
        assert (native.status, native.headers["x-should-retry"]) == (504, "false")
        assert (native.json["error_type"], native.json["reason"]) == ("overloaded", "queue_timeout")
        assert (chat.status, chat.json["error"]["type"]) == (504, "timeout_error")
        assert "retry-after" not in native.headers
        # Waiting is what takes too long, not being served.
        await serve_in_turn(scripted, play, 0)
        assert await crowd.status("occupant") == 200
    assert scripted.unanswered == 0


async def test_refused_in_the_moment_when_its_time_is_up_is_refused_and_not_sent(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    """Both timers are due in one turn of the loop: the time-out, then whatever refuses the job."""
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME, queue={"timeout": "0.1s"})
    assert stack.proxy is not None
    dispatcher = stack.proxy.dispatcher
    async with Crowd(stack) as crowd:
        await occupy(crowd, scripted)
        await crowd.join("late", "bob")
        loop = asyncio.get_running_loop()
        loop.call_later(0.1, lambda: dispatcher.refuse_newest(Refused(Outcome.QUEUE_FULL, "made to go")))
        loop.call_soon(time.sleep, 0.12)
        reply = await crowd.tasks["late"]
        assert (reply.status, reply.json["reason"]) == (503, "queue_full")
        assert scripted.unanswered == 0


async def test_everybody_who_is_refused_is_told_another_time(start_proxy: StartProxy, scripted: ScriptedEngine) -> None:
    """Else they would all come back together."""
    tenants = [{"name": "alice", "limits": {"maxQueued": 100}}]
    stack = await start_proxy(scripted.port, tenants=tenants, backpressure=ONE_AT_A_TIME)
    async with Crowd(stack) as crowd:
        await occupy(crowd, scripted)
        for number in range(100):
            await crowd.join(f"queued-{number}", "alice")
        seconds = {
            int((await ask(stack.data, request("/generate", generate(), tenant="alice"))).headers["retry-after"])
            for _ in range(12)
        }
    assert len(seconds) > 3
    assert all(1 <= each <= 120 for each in seconds)


async def test_with_room_for_everybody_nobody_is_refused(start_proxy: StartProxy, engine: RunningEngine) -> None:
    stack = await start_proxy(engine.port, backpressure={"maxRequests": 4})
    bodies = [generate(f"[[word=w{number}]]") for number in range(60)]
    replies = await asyncio.gather(
        *(ask(stack.data, request("/generate", body, tenant=("alice", "bob")[n % 2])) for n, body in enumerate(bodies))
    )
    assert [reply.json["generated_text"] for reply in replies] == [f" w{n} w{n}" for n in range(60)]
    assert len(engine.truth.requests) == 60
    assert json.loads((await stack.get(stack.local, "/-/queue"))[1])["queued"] == []
