"""What the proxy learns of an engine while it works, over real sockets: from refusals, and nothing from silence."""

from typing import Any

import pytest

from fairqueue_proxy import engine_inquiry, engine_watch
from proxy.conftest import StartProxy, Until
from proxy.crowd import Crowd, generate
from proxy.samples import sample
from proxy.scripted_engine import LAST_CHUNK, STREAM_HEAD, Play, ScriptedEngine, chunk, json_reply, tgi_token
from proxy_stack import Stack

OVERLOADED = {"error": "Model is overloaded", "error_type": "overloaded"}
REFUSED = json_reply(OVERLOADED, 429)
METRICS = b"tgi_queue_size 0\ntgi_batch_current_size 5\n"


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_watch, "OVERLOAD_PAUSE_SECONDS", 0.005)
    monkeypatch.setattr(engine_watch, "PROBE_SECONDS", 0.005)
    monkeypatch.setattr(engine_inquiry, "NOT_SERVED_SECONDS", 0.0)


async def begin(crowd: Crowd, scripted: ScriptedEngine, until: Until, name: str, tenant: str) -> Play:
    """A stream whose first token has come."""
    await crowd.join(name, tenant, generate(), "/generate_stream")
    play = await scripted.play()
    play.write(STREAM_HEAD + tgi_token("a"))
    assert crowd.stack.proxy is not None
    intake = crowd.stack.proxy.dispatcher.capacity.intake
    await until(lambda: intake.unstarted == 0)
    return play


def finish(play: Play) -> None:
    play.answer(tgi_token("b", last=True) + LAST_CHUNK)


def serve(play: Play) -> None:
    play.answer(STREAM_HEAD + tgi_token("a") + tgi_token("b", last=True) + LAST_CHUNK)


async def budget(stack: Stack, name: str) -> dict[str, Any]:
    (found,) = (each for each in (await stack.queue())["capacity"] if each["budget"] == name)
    return dict(found)


async def waiting(stack: Stack) -> list[str]:
    return [row["request_id"] for row in (await stack.queue())["queued"]]


async def refuse_one(crowd: Crowd, scripted: ScriptedEngine, until: Until, tenant: str) -> None:
    """The engine refuses a stream, which is queued again."""
    await crowd.join("refused", tenant, generate(), "/generate_stream")
    play = await scripted.play()
    assert play.headers["x-request-id"].startswith("refused")
    play.answer(REFUSED)
    assert crowd.stack.proxy is not None
    backlog = crowd.stack.proxy.dispatcher.backlog
    await until(lambda: backlog.queued == 1)


async def test_what_is_refused_goes_back_uncharged_and_no_more_are_sent_than_the_engine_has(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until
) -> None:
    stack = await start_proxy(scripted.port)
    async with Crowd(stack) as crowd:
        running = [await begin(crowd, scripted, until, f"running-{number}", "alice") for number in range(4)]
        assert await budget(stack, "requests") == {"budget": "requests", "limit": 64, "used": 4, "source": "engine"}
        await refuse_one(crowd, scripted, until, "bob")
        assert await budget(stack, "requests") == {"budget": "requests", "limit": 4, "used": 4, "source": "learned"}
        metrics = await stack.metrics()
        assert sample(metrics, "service_total", tenant="bob") == 0
        # Nor is anything reserved for it.
        assert stack.proxy is not None
        (bob,) = (node for node in stack.proxy.dispatcher.scheduler.nodes() if node.name == "bob")
        assert bob.reserved == 0
        await crowd.join("later", "alice", generate(), "/generate_stream")
        assert await waiting(stack) == ["refused", "later"]
        assert scripted.unanswered == 0
        # One has gone: there is room for one, and nothing of what came is lost.
        finish(running.pop())
        again = await scripted.play()
        assert again.headers["x-request-id"] == "refused"
        assert await waiting(stack) == ["later"]
        serve(again)
        serve(await scripted.play())
        for play in running:
            finish(play)
        assert [await crowd.status(name) for name in crowd.tasks] == [200] * 6
    metrics = await stack.metrics()
    assert sample(metrics, "requests_total", tenant="bob", outcome="completed") == 1
    # Five tokens in and three out, each of which counts twice.
    assert sample(metrics, "service_total", tenant="bob") == 5 + 2 * 3


async def test_after_as_many_have_ended_as_fit_one_more_is_tried(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until
) -> None:
    stack = await start_proxy(scripted.port)
    async with Crowd(stack) as crowd:
        running = [await begin(crowd, scripted, until, f"running-{number}", "alice") for number in range(2)]
        await refuse_one(crowd, scripted, until, "alice")
        limits = []
        for number in range(3):
            await crowd.join(f"later-{number}", "alice", generate(), "/generate_stream")
            finish(running.pop(0))
            play = await scripted.play()
            play.write(STREAM_HEAD + tgi_token("a"))
            running.append(play)
            limits.append((await budget(stack, "requests"))["limit"])
        assert limits[0] == 2
        assert limits[-1] == 3
        for play in running:
            finish(play)
        for _ in range(scripted.unanswered):
            serve(await scripted.play())
        assert {await crowd.status(name) for name in crowd.tasks} == {200}


async def test_of_an_engine_that_was_restarted_nothing_is_known_and_of_its_tenants_all(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until
) -> None:
    stack = await start_proxy(scripted.port)
    async with Crowd(stack) as crowd:
        running = await begin(crowd, scripted, until, "running", "alice")
        await refuse_one(crowd, scripted, until, "alice")
        finish(running)
        serve(await scripted.play())
        assert [await crowd.status(name) for name in crowd.tasks] == [200, 200]
        assert (await budget(stack, "requests"))["source"] == "learned"
        served = sample(await stack.metrics(), "service_total", tenant="alice")
        counter = sample(await stack.metrics(), "virtual_counter", tenant="alice")
        assert served > 0
        assert stack.proxy is not None
        port, watch = scripted.port, stack.proxy.watch
        await scripted.stop()
        await crowd.join("later", "bob", generate(), "/generate_stream")
        await until(lambda: stack.proxy is not None and stack.proxy.dispatcher.capacity.paused)
        await scripted.start(port)
        play = await scripted.play()
        assert await budget(stack, "requests") == {"budget": "requests", "limit": 64, "used": 1, "source": "engine"}
        assert not watch.unavailable
        assert sample(await stack.metrics(), "service_total", tenant="alice") == served
        assert sample(await stack.metrics(), "virtual_counter", tenant="alice") == counter
        serve(play)
        assert await crowd.status("later") == 200


@pytest.mark.parametrize(
    "instead",
    [
        json_reply({"error": "no such path"}, 404),
        json_reply({"error": "busy"}, 500),
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n\x00\xfftgi_queue_size{ NaN nan \n tgi_queue_size 1e999x\n\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"tgi_queue_size 9"),
        b"not HTTP at all\r\n\r\n",
        b"",
    ],
    ids=["404", "500", "garbage", "cut short", "no HTTP", "nothing"],
)
@pytest.mark.parametrize("path", ["/generate", "/generate_stream"])
async def test_metrics_that_vanish_for_a_while_stop_nothing(
    start_proxy: StartProxy, scripted: ScriptedEngine, instead: bytes, path: str
) -> None:
    scripted.metrics = METRICS
    stack = await start_proxy(scripted.port)
    assert stack.proxy is not None
    watch = stack.proxy.watch
    await watch.look()
    assert watch.waiting == 0
    scripted.answers["GET /metrics"] = instead
    async with Crowd(stack) as crowd:
        for number in range(8):
            await watch.look()
            await crowd.join(f"r{number}", "alice", generate(), path)
        plays = [await scripted.play() for _ in range(8)]
        assert await waiting(stack) == []
        assert watch.healthy
        del scripted.answers["GET /metrics"]
        await watch.look()
        assert watch.waiting == 0
        for play in plays:
            serve(play) if path == "/generate_stream" else play.answer(json_reply({"generated_text": "x"}))
        assert {await crowd.status(name) for name in crowd.tasks} == {200}
