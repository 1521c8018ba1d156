"""The listeners beside the data port: health, readiness and its reasons, who waits behind whom, and what is where."""

import asyncio
import logging

import pytest

from fairqueue_proxy import drain as drain_module
from fairqueue_proxy import proxy as proxy_module
from fairqueue_sim import RunningEngine
from proxy.conftest import StartProxy, Until
from proxy.crowd import ONE_AT_A_TIME, Crowd, generate, occupy, serve_in_turn
from proxy.raw_client import RawClient, ask, request
from proxy.scripted_engine import LAST_CHUNK, STREAM_HEAD, ScriptedEngine, tgi_token
from proxy_stack import Stack, key_of

POD = ["/metrics", "/-/live", "/-/ready", "/-/config", "/-/drain/wait"]
LOOPBACK = {"/-/drain": "POST", "/-/queue": "GET"}


async def ready(stack: Stack) -> tuple[int, list[str]]:
    """Status and reasons of /-/ready."""
    reply = await ask(stack.admin, request("/-/ready", method="GET"))
    assert reply.json["ready"] is (reply.status == 200)
    return reply.status, reply.json["reasons"]


async def test_it_lives_and_is_ready_with_a_healthy_engine(start_proxy: StartProxy, engine: RunningEngine) -> None:
    stack = await start_proxy(engine.port)
    live = await ask(stack.admin, request("/-/live", method="GET"))
    assert (live.status, live.json) == (200, {"live": True})
    assert live.headers["content-type"] == "application/json"
    assert await ready(stack) == (200, [])


@pytest.mark.parametrize("engine_is", ["ill", "gone"])
async def test_without_a_healthy_engine_it_lives_but_is_not_ready(
    start_proxy: StartProxy, scripted: ScriptedEngine, engine_is: str
) -> None:
    stack = await start_proxy(scripted.port)
    assert await ready(stack) == (200, [])
    if engine_is == "ill":
        scripted.healthy = False
    else:
        await scripted.stop()
    assert stack.proxy is not None
    await stack.proxy.watch.look()
    assert await ready(stack) == (503, ["engine not healthy"])
    assert (await stack.get(stack.admin, "/-/live"))[0] == 200


async def test_a_proxy_does_not_wait_for_an_engine_that_is_slow_to_answer(
    start_proxy: StartProxy, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy_module, "FIRST_LOOK_SECONDS", 0.05)
    scripted.answers["GET /health"] = None
    stack = await start_proxy(scripted.port)
    assert await ready(stack) == (503, ["engine not healthy"])


async def test_it_is_not_ready_while_it_drains(start_proxy: StartProxy, scripted: ScriptedEngine) -> None:
    stack = await start_proxy(scripted.port)
    await ask(stack.local, request("/-/drain"))
    assert await ready(stack) == (503, ["draining"])
    scripted.healthy = False
    assert stack.proxy is not None
    await stack.proxy.watch.look()
    assert await ready(stack) == (503, ["draining", "engine not healthy"])
    assert (await stack.get(stack.admin, "/-/live"))[0] == 200


async def test_it_is_not_ready_when_its_port_is_closed_and_lives_until_all_is_finished(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain_module, "LOOK_SECONDS", 0.005)
    stack = await start_proxy(scripted.port)
    assert stack.proxy is not None
    async with RawClient(stack.data) as client:
        client.send(request("/generate_stream", generate(), tenant="alice"))
        play = await scripted.play()
        finishing = asyncio.create_task(stack.proxy.finish())
        await until(stack.proxy.drain.begun.is_set)
        assert await ready(stack) == (503, ["not listening", "draining"])
        play.answer(STREAM_HEAD + tgi_token(" x", last=True) + LAST_CHUNK)
        assert (await client.reply()).status == 200
        async with asyncio.timeout(5):
            await finishing
    assert (await stack.get(stack.admin, "/-/live"))[0] == 200


async def test_a_full_queue_stays_ready(start_proxy: StartProxy, scripted: ScriptedEngine) -> None:
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME, queue={"maxRequests": 1})
    async with Crowd(stack) as crowd:
        await occupy(crowd, scripted)
        for name in ("first", "second"):
            await crowd.join(name, "bob")
        assert 503 in crowd.refused().values()
        assert await ready(stack) == (200, [])


async def test_config_names_policy_and_revision_and_holds_no_key(
    start_proxy: StartProxy, engine: RunningEngine
) -> None:
    stack = await start_proxy(engine.port)
    other = await start_proxy(engine.port, tenants=[{"name": "alice", "weight": 2}])
    configs = [(await ask(each.admin, request("/-/config", method="GET"))).json for each in (stack, other)]
    for config in configs:
        assert config.keys() == {"policy", "revision", "schemas", "problem"}
        assert (config["policy"], config["schemas"], config["problem"]) == ("default/test", [1], None)
    assert configs[0]["revision"] != configs[1]["revision"]
    assert key_of("alice") not in str(configs)


@pytest.mark.parametrize("path", POD)
async def test_what_the_pod_network_may_read_is_not_on_loopback_and_can_only_be_read(
    start_proxy: StartProxy, engine: RunningEngine, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(drain_module, "WAIT_FOR_BEGIN_SECONDS", 0)
    stack = await start_proxy(engine.port)
    assert (await ask(stack.admin, request(path, method="GET"))).status == 200
    assert (await ask(stack.local, request(path, method="GET"))).status == 404
    for method in ("POST", "PUT", "DELETE"):
        reply = await ask(stack.admin, request(path, method=method))
        assert (reply.status, reply.headers["allow"]) == (405, "GET,HEAD")


@pytest.mark.parametrize("path", LOOPBACK)
async def test_what_is_for_loopback_only_does_not_exist_for_the_pod_network(
    start_proxy: StartProxy, engine: RunningEngine, path: str
) -> None:
    stack = await start_proxy(engine.port)
    for method in ("GET", "POST", "PUT"):
        assert (await ask(stack.admin, request(path, method=method))).status == 404
    assert await ready(stack) == (200, [])
    wrong = "GET" if LOOPBACK[path] == "POST" else "POST"
    reply = await ask(stack.local, request(path, method=wrong))
    assert reply.status == 405
    assert LOOPBACK[path] in reply.headers["allow"]
    # A wrong method has not begun a drain either.
    assert await ready(stack) == (200, [])
    assert (await ask(stack.local, request(path, method=LOOPBACK[path]))).status == 200


@pytest.mark.parametrize("path", [*POD[1:], *LOOPBACK])
async def test_none_of_it_is_on_the_clients_port(start_proxy: StartProxy, engine: RunningEngine, path: str) -> None:
    stack = await start_proxy(engine.port)
    for method in ("GET", "POST"):
        assert (await ask(stack.data, request(path, method=method, tenant="alice"))).status == 403


async def test_an_empty_queue_shows_the_budgets(start_proxy: StartProxy, scripted: ScriptedEngine) -> None:
    stack = await start_proxy(scripted.port, backpressure={"maxRequests": 2, "maxTokens": 500})
    assert await stack.queue() == {
        "capacity": [
            {"budget": "requests", "limit": 2, "used": 0, "source": "policy"},
            {"budget": "tokens", "limit": 500, "used": 0, "source": "policy"},
            {"budget": "prefill", "limit": None, "used": 0, "source": "none"},
            {"budget": "unstarted", "limit": None, "used": 0, "source": "none"},
        ],
        "queued": [],
        "in_flight": [],
    }


async def test_the_queue_says_who_runs_who_waits_behind_whom_and_why(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    tenants = [{"name": "alice"}, {"name": "bob"}, {"name": "capped", "limits": {"maxInFlight": 1}}]
    stack = await start_proxy(scripted.port, tenants=tenants, backpressure={"maxRequests": 2})
    async with Crowd(stack) as crowd:
        await crowd.join("running-alice", "alice")
        await crowd.join("running-capped", "capped")
        for name, tenant in (("a0", "alice"), ("a1", "alice"), ("b0", "bob"), ("c0", "capped")):
            await crowd.join(name, tenant)
        view = await stack.queue()
        assert [(row["request_id"], row["tenant"]) for row in view["in_flight"]] == [
            ("running-alice", "alice"),
            ("running-capped", "capped"),
        ]
        assert all(row["running_seconds"] >= 0 and row["output_tokens"] == 0 for row in view["in_flight"])
        assert view["capacity"][0] == {"budget": "requests", "limit": 2, "used": 2, "source": "policy"}
        rows = {row["request_id"]: row for row in view["queued"]}
        assert list(rows) == ["a0", "a1", "b0", "c0"]
        assert [row["place_in_tenant"] for row in rows.values()] == [1, 2, 1, 1]
        assert rows["a0"]["key"] > rows["b0"]["key"]
        assert {name: (row["behind"], row["why"]) for name, row in rows.items()} == {
            "a0": (["bob"], "others come first: smaller counters, or equal ones and older requests"),
            "a1": (["bob"], "behind earlier requests of its own tenant"),
            "b0": ([], "next: waits until it fits into the engine"),
            "c0": (["alice", "bob"], "its tenant is at its own limit"),
        }
        assert all(0 <= row["waiting_seconds"] < 5 for row in rows.values())
        for row in (*view["queued"], *view["in_flight"]):
            assert "hello" not in str(row)


async def test_of_equal_counters_who_has_waited_longer_comes_first_and_the_other_is_behind_it(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    tenants = [{"name": "alice"}, {"name": "bob"}, {"name": "carol"}]
    stack = await start_proxy(scripted.port, tenants=tenants, backpressure=ONE_AT_A_TIME)
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted, "alice")
        await crowd.join("earlier", "carol")
        await crowd.join("later", "bob")
        rows = {row["request_id"]: row for row in (await stack.queue())["queued"]}
        assert rows["earlier"]["key"] == rows["later"]["key"]
        assert (rows["earlier"]["behind"], rows["later"]["behind"]) == ([], ["carol"])
        assert rows["later"]["why"].startswith("others come first")
        assert await serve_in_turn(scripted, play, 2) == ["earlier", "later"]


async def test_behind_names_groups_as_well_as_tenants(start_proxy: StartProxy, scripted: ScriptedEngine) -> None:
    tenants = [{"name": "alice", "group": "team"}, {"name": "bob", "group": "team"}, {"name": "carol"}]
    stack = await start_proxy(scripted.port, tenants=tenants, groups=[{"name": "team"}], backpressure=ONE_AT_A_TIME)
    async with Crowd(stack) as crowd:
        await occupy(crowd, scripted, "alice")
        for name, tenant in (("a", "alice"), ("b", "bob"), ("c", "carol")):
            await crowd.join(name, tenant)
        behind = {row["request_id"]: row["behind"] for row in (await stack.queue())["queued"]}
        assert behind == {"a": ["carol", "group:team/bob"], "b": ["carol"], "c": []}


async def test_while_the_engine_takes_nothing_the_queue_says_so(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until
) -> None:
    stack = await start_proxy(scripted.port)
    assert stack.proxy is not None
    await scripted.stop()
    async with Crowd(stack) as crowd:
        await crowd.join("first", "alice")
        await until(lambda: stack.proxy is not None and stack.proxy.dispatcher.backlog.queued == 1)
        (row,) = (await stack.queue())["queued"]
        assert (row["behind"], row["why"]) == ([], "the engine takes nothing at the moment")


async def test_a_scrape_that_is_broken_off_is_no_error(
    start_proxy: StartProxy, engine: RunningEngine, caplog: pytest.LogCaptureFixture
) -> None:
    stack = await start_proxy(engine.port, tenants=[{"name": f"tenant-{number}"} for number in range(200)])
    tasks = asyncio.all_tasks()
    reader, writer = await asyncio.open_connection(stack.admin.host, stack.admin.port, limit=1024)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    # What has not been read makes this a reset.
    writer.transport.abort()
    async with asyncio.timeout(5):
        while asyncio.all_tasks() - tasks:
            await asyncio.sleep(0.01)
    assert [line.getMessage() for line in caplog.records if line.levelno >= logging.ERROR] == []
