"""What requests by real sockets leave in the usage log: the sums are what /metrics counts and what the engine did."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from fairqueue_proxy import whole_lines
from fairqueue_proxy.usage_log import UsageLog, open_usage_log
from fairqueue_sim import RunningEngine
from proxy.changing import STREAM, STREAMED, Versions
from proxy.conftest import StartProxy, Until
from proxy.crowd import ONE_AT_A_TIME, Crowd, generate, occupy
from proxy.observing import relayed
from proxy.raw_client import RawClient, ask, request
from proxy.samples import sample, samples
from proxy.scripted_engine import STREAM_HEAD, ScriptedEngine, json_reply, tgi_token
from proxy.usage import KINDS, Line, usage_lines, usage_sums
from proxy_stack import Stack, key_of

TENANTS = ("alice", "bob")


@pytest.fixture
def usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(whole_lines, "FLUSH_SECONDS", 0.005)
    folder = tmp_path / "usage"
    folder.mkdir()
    return folder


def opened(folder: Path) -> UsageLog:
    return open_usage_log(folder, most_bytes=2000, most_files=1000)


async def counted(stack: Stack) -> dict[str, Counter[str]]:
    """What /metrics has, of tenants that were charged anything."""
    text = await stack.metrics()
    found = {}
    for tenant in TENANTS:
        counts = {kind: sample(text, "tokens_total", tenant=tenant, kind=kind) for kind in KINDS}
        found[tenant] = Counter(counts | {"cost": sample(text, "service_total", tenant=tenant)})
    return {tenant: counts for tenant, counts in found.items() if +counts}


async def test_sums_over_lines_are_what_the_metrics_count_and_what_the_engine_did(
    start_proxy: StartProxy, engine: RunningEngine, until: Until, usage: Path
) -> None:
    stack = await start_proxy(engine.port, usage_log=(log := opened(usage)))
    assert stack.proxy is not None
    chat = {"messages": [{"role": "user", "content": "some more words"}], "max_tokens": 7, "stream": True}
    asked = []
    for number in range(40):
        name, tenant = f"{number:02}", TENANTS[number % 3 == 0]
        path, body = [
            (STREAM, generate("one two three", max_new_tokens=1 + number)),
            ("/generate", generate("four", max_new_tokens=9)),
            ("/v1/chat/completions", chat),
        ][number % 3]
        asked.append(ask(stack.data, request(path, body, tenant=tenant, headers={"x-request-id": name})))
    assert {reply.status for reply in await asyncio.gather(*asked)} == {200}
    # These cost nothing.
    await ask(stack.data, request("/generate", b"{", tenant="bob"))
    await ask(stack.data, request("/generate", generate()))
    await until(lambda: log.written_lines == 40)
    lines = usage_lines(usage)
    assert usage_sums(lines) == await counted(stack)
    assert len(lines) == 40
    for line in lines:
        truth = engine.truth.find(line["request_id"])
        assert (line["input_tokens"], line["output_tokens"]) == (truth.prompt_tokens, truth.made_tokens)
        assert line["cost"] == truth.prompt_tokens + 2 * truth.made_tokens
    text = await stack.metrics()
    assert sample(text, "usage_log_written_lines_total") == 40
    assert sample(text, "usage_log_lost_lines_total") == 0


async def test_who_hangs_up_pays_for_what_was_made(
    start_proxy: StartProxy, engine: RunningEngine, until: Until, usage: Path
) -> None:
    stack = await start_proxy(engine.port, usage_log=opened(usage))
    for number in range(8):
        async with RawClient(stack.data) as client:
            body = generate("some words", max_new_tokens=200)
            client.send(request(STREAM, body, tenant="alice", headers={"x-request-id": f"{number}"}))
            await client.until(b"\n\n")
            if number % 2:
                client.reset()
            else:
                client.half_close()
            await client.rest()
    await until(lambda: len(usage_lines(usage)) >= 8)
    lines = usage_lines(usage)
    assert usage_sums(lines) == await counted(stack)
    assert {line["outcome"] for line in lines} == {"client_gone"}
    await until(lambda: not engine.model.running)
    for line in lines:
        truth = engine.truth.find(line["request_id"])
        # TGI tells it at the end of a stream only.
        assert line["input_tokens"] > 0
        assert 1 <= line["output_tokens"] <= truth.made_tokens < 200


async def test_what_is_refused_waits_or_fails_before_it_is_worked_on_has_no_line(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until, usage: Path
) -> None:
    tenants = [{"name": "alice", "limits": {"maxQueued": 1}}, {"name": "bob"}]
    stack = await start_proxy(
        scripted.port, usage_log=opened(usage), tenants=tenants, backpressure=ONE_AT_A_TIME, queue={"timeout": "1s"}
    )
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted, "bob")
        await crowd.join("times-out", "alice")
        await crowd.join("too-many", "alice")
        await crowd.join("leaves", "bob")
        crowd.hang_up("leaves")
        assert [await crowd.status(name) for name in ("too-many", "times-out")] == [429, 504]
        play.answer(json_reply({"error": "Input validation error: no", "error_type": "validation"}, 422))
        assert await crowd.status("occupant") == 422
    await relayed(stack, scripted, request(STREAM, generate(), tenant="bob", headers={"x-request-id": "one"}), STREAMED)
    await until(lambda: len(usage_lines(usage)) >= 1)
    assert [line["request_id"] for line in usage_lines(usage)] == ["one"]


async def test_nothing_of_what_is_asked_and_answered_is_in_it(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until, usage: Path
) -> None:
    stack = await start_proxy(scripted.port, kind="VLLM", usage_log=opened(usage))
    body = {"model": "m", "messages": [{"role": "user", "content": "a secret question"}], "user": "ann@example.com"}
    counts = {"prompt_tokens": 30, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 16}}
    answer = json_reply({"choices": [{"message": {"content": "a secret answer"}}], "usage": counts})
    headers = {"x-request-id": "id", "x-secret": "secret"}
    data = request("/v1/chat/completions?secret=1", body, tenant="alice", headers=headers)
    await relayed(stack, scripted, data, answer)
    await until(lambda: len(usage_lines(usage)) == 1)
    (line,) = usage_lines(usage)
    assert (line["route"], line["model"], line["request_id"]) == ("POST /v1/chat/completions", "m", "id")
    assert (line["input_tokens"], line["cached_input_tokens"], line["output_tokens"]) == (14, 16, 7)
    for secret in ("secret", "ann", "example", key_of("alice")):
        assert secret not in str(line)


async def test_who_is_charged_after_it_has_left_the_policy_has_its_own_name_in_the_line(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until, usage: Path, versions: Versions
) -> None:
    stack = await start_proxy(scripted.port, usage_log=opened(usage))
    assert stack.proxy is not None
    before = stack.proxy.runtime.in_force
    assert before is not None
    async with Crowd(stack) as crowd:
        await crowd.join("one", "alice", path=STREAM)
        play = await scripted.play()
        versions.apply(stack, tenants=[{"name": "bob"}])
        play.answer(STREAMED)
        assert await crowd.status("one") == 200
    await until(lambda: len(usage_lines(usage)) == 1)
    (line,) = usage_lines(usage)
    assert (line["tenant"], line["revision"], line["cost"]) == ("alice", before.document.revision, 5 + 2 * 3)
    assert sample(await stack.metrics(), "service_total", tenant="other") == 5 + 2 * 3


async def test_under_a_policy_that_observes_there_is_a_line_for_what_was_served(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until, usage: Path
) -> None:
    tenants = [{"name": "alice", "limits": {"maxQueued": 1}}, {"name": "bob"}]
    policy = {"tenants": tenants, "backpressure": ONE_AT_A_TIME, "mode": "Observe"}
    stack = await start_proxy(scripted.port, usage_log=opened(usage), **policy)
    async with Crowd(stack) as crowd:
        for number in range(4):
            await crowd.join(f"{number}", "alice", path=STREAM)
        plays = [await scripted.play() for _ in range(4)]
        for play in reversed(plays):
            play.answer(STREAMED)
        assert {await crowd.status(name) for name in crowd.tasks} == {200}
    await until(lambda: len(usage_lines(usage)) == 4)
    assert usage_sums(usage_lines(usage)) == await counted(stack)


async def test_what_is_under_way_when_the_proxy_stops_is_written_as_far_as_it_was_charged(
    start_proxy: StartProxy, scripted: ScriptedEngine, usage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_lines, "FLUSH_SECONDS", 1000.0)
    stack = await start_proxy(scripted.port, usage_log=opened(usage))
    assert stack.proxy is not None
    await relayed(stack, scripted, request(STREAM, generate(), tenant="bob"), STREAMED)
    async with RawClient(stack.data) as client:
        client.send(request(STREAM, generate(), tenant="alice"))
        play = await scripted.play()
        play.write(STREAM_HEAD + tgi_token("x"))
        await client.until(b"\n\n")
        await stack.proxy.stop()

    def described(line: Line) -> tuple[str, str, int]:
        return line["tenant"], line["outcome"], line["output_tokens"]

    assert [described(line) for line in usage_lines(usage)] == [("bob", "completed", 3), ("alice", "client_gone", 1)]
    served = stack.proxy.dispatcher.scheduler.root.served / 1e6
    assert sum(line["cost"] for line in usage_lines(usage)) == served


async def test_without_a_usage_log_its_metrics_are_not_there(start_proxy: StartProxy, engine: RunningEngine) -> None:
    stack = await start_proxy(engine.port)
    assert not [name for name, _ in samples(await stack.metrics()) if "usage_log" in name]
