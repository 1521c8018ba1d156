"""What is recorded of requests that go through a proxy, by real sockets: which, in what order, and how they ended."""

import asyncio
import errno
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from fairqueue_proxy import drain as drain_module
from fairqueue_proxy import engine_watch, whole_lines
from fairqueue_proxy.recording import Recording
from fairqueue_sim import RunningEngine
from fairqueue_sim.lab.trace import read_trace
from proxy.changing import STREAM, STREAMED, Versions
from proxy.conftest import StartProxy, Until
from proxy.crowd import ONE_AT_A_TIME, Crowd, generate, occupy, serve_in_turn
from proxy.observing import relayed
from proxy.raw_client import RawClient, ask, request
from proxy.scripted_engine import ScriptedEngine, json_reply, scripted_engine
from proxy.traces import TraceFile, column
from proxy_stack import key_of

GATEWAY = "127.0.0.2"
GENERATED = json_reply({"generated_text": "x", "details": {"generated_tokens": 4}})
TOKENS = ("tenant", "prompt_tokens", "output_tokens")


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TraceFile:
    monkeypatch.setattr(whole_lines, "FLUSH_SECONDS", 0.005)
    return TraceFile(tmp_path)


def written(trace: TraceFile, count: int) -> Any:
    return lambda: trace.text.count("\n") == 1 + count


async def test_a_request_leaves_lengths_and_times_and_nothing_of_what_is_in_it(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until, trace: TraceFile
) -> None:
    stack = await start_proxy(scripted.port, kind="VLLM", recording=trace.recording)
    body = {
        "messages": [{"role": "user", "content": "a secret question"}],
        "max_tokens": 20,
        "user": "ann@example.com",
    }
    usage = {"prompt_tokens": 30, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 16}}
    answer = json_reply({"choices": [{"message": {"content": "a secret answer"}}], "usage": usage})
    data = request("/v1/chat/completions", body, tenant="alice", headers={"x-request-id": "secret-id"})
    await relayed(stack, scripted, data, answer)
    await until(written(trace, 1))
    (row,) = trace.rows
    pseudonym = row.pop("user")
    assert row == {
        "arrival_seconds": "0.000000",
        "tenant": "alice",
        "prompt_tokens": "30",
        "output_tokens": "7",
        "max_tokens": "20",
        "cached_tokens": "16",
        "outcome": "completed",
    }
    assert len(pseudonym) == 12
    for secret in ("secret", "ann", "example", key_of("alice")):
        assert secret not in trace.text


async def test_rows_are_by_arrival_though_requests_end_in_another_order(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until, trace: TraceFile
) -> None:
    stack = await start_proxy(scripted.port, recording=trace.recording)
    async with Crowd(stack) as crowd:
        plays = []
        for number, tenant in enumerate(("alice", "bob", "alice", "bob")):
            await crowd.join(f"{number}", tenant, path=STREAM)
            plays.append(await scripted.play())
        for number in (3, 1):
            plays[number].answer(STREAMED)
            assert await crowd.status(str(number)) == 200
        await asyncio.sleep(0.03)
        assert trace.rows == []
        plays[0].answer(STREAMED)
        await until(written(trace, 2))
        plays[2].answer(STREAMED)
        await until(written(trace, 4))
    assert column(trace.rows, *TOKENS) == [("alice", "5", "3"), ("bob", "5", "3")] * 2
    arrivals = [float(row["arrival_seconds"]) for row in trace.rows]
    assert arrivals == sorted(arrivals)
    assert [arrival.seconds for arrival in read_trace(trace.path)] == arrivals


async def test_what_a_tenant_is_refused_is_recorded_with_the_reason(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until, trace: TraceFile
) -> None:
    tenants = [{"name": "alice", "limits": {"maxQueued": 1}}, {"name": "bob"}]
    queue = {"maxRequests": 2, "timeout": "1s", "maxBodyBytes": 65536}
    policy = {"tenants": tenants, "backpressure": ONE_AT_A_TIME, "queue": queue}
    stack = await start_proxy(scripted.port, recording=trace.recording, **policy)
    words = "word " * 80
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted)
        await crowd.join("times-out", "alice", generate(words))
        await crowd.join("too-many", "alice", generate(words))
        await crowd.join("times-out-too", "bob", generate(words))
        await crowd.join("evicted", "bob", generate(words))
        statuses = [await crowd.status(name) for name in ("too-many", "times-out", "times-out-too", "evicted")]
        assert statuses == [429, 504, 504, 503]
        for body in (b"{", {"inputs": "x" * 70000}):
            await ask(stack.data, request("/generate", body, tenant="alice"))
        play.answer(GENERATED)
        await until(written(trace, 7))
    estimate = str(len(words) // 4)
    assert column(trace.rows, "tenant", "outcome", "prompt_tokens", "output_tokens", "max_tokens") == [
        ("alice", "completed", "1", "4", "2"),
        ("alice", "queue_timeout", estimate, "0", "2"),
        ("alice", "tenant_queue_full", estimate, "0", "2"),
        ("bob", "queue_timeout", estimate, "0", "2"),
        ("bob", "queue_full", estimate, "0", "2"),
        # Of what has not been read nothing is known.
        ("alice", "bad_request", "1", "0", ""),
        ("alice", "too_large", "1", "0", ""),
    ]
    assert [arrival.outcome for arrival in read_trace(trace.path)] == [row["outcome"] for row in trace.rows]


async def test_a_prompt_in_token_ids_is_known_exactly_though_it_is_too_long(
    start_proxy: StartProxy, until: Until, trace: TraceFile
) -> None:
    async with scripted_engine(total_slots=4, default_generation_settings={"n_ctx": 100}) as engine:
        stack = await start_proxy(engine.port, kind="LlamaCpp", recording=trace.recording)
        body = {"prompt": [1] * 101, "n_predict": 7}
        assert (await ask(stack.data, request("/completion", body, tenant="alice"))).status == 422
        await until(written(trace, 1))
    assert column(trace.rows, "prompt_tokens", "max_tokens", "outcome") == [("101", "7", "too_large")]


async def test_an_engine_that_is_down_and_a_drain_refuse_with_their_reasons(
    start_proxy: StartProxy,
    scripted: ScriptedEngine,
    until: Until,
    trace: TraceFile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_watch, "UNAVAILABLE_SECONDS", 0.02)
    monkeypatch.setattr(drain_module, "QUIET_SECONDS", 0.0)
    stack = await start_proxy(scripted.port, recording=trace.recording)
    assert stack.proxy is not None
    await scripted.stop()
    data = request("/generate", generate("word " * 8), tenant="alice")
    # The first waits for the engine to come back, the second is refused at once.
    assert [(await ask(stack.data, data)).status for _ in range(2)] == [503, 503]
    stack.proxy.drain.begin(refuse=True)
    assert (await ask(stack.data, data)).status == 503
    await until(written(trace, 3))
    assert column(trace.rows, "outcome", "prompt_tokens", "output_tokens") == [
        ("engine_unavailable", "10", "0"),
        ("engine_unavailable", "1", "0"),
        ("draining", "1", "0"),
    ]


NOBODYS = {
    "no key": request("/generate", generate()),
    "a wrong key": request("/generate", generate(), headers={"Authorization": "Bearer x"}),
    "a route that is refused": request("/shutdown", {}, tenant="alice"),
    "a free route": request("/health", method="GET", tenant="alice"),
    "what is no HTTP": b"GET\r\n\r\n",
}


@pytest.mark.parametrize("data", NOBODYS.values(), ids=NOBODYS)
@pytest.mark.parametrize("mode", ["Enforce", "Observe"])
async def test_what_is_no_tenants_metered_request_is_not_recorded(
    start_proxy: StartProxy, engine: RunningEngine, until: Until, trace: TraceFile, data: bytes, mode: str
) -> None:
    stack = await start_proxy(engine.port, recording=trace.recording, mode=mode)
    await ask(stack.data, data)
    # It would have been there before this one.
    await ask(stack.data, request("/generate", generate(), tenant="bob"))
    await until(written(trace, 1))
    assert column(trace.rows, "tenant", "outcome") == [("bob", "completed")]


async def test_a_tenant_that_is_removed_while_its_request_comes_leaves_no_row(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until, trace: TraceFile, versions: Versions
) -> None:
    stack = await start_proxy(scripted.port, recording=trace.recording)
    assert stack.proxy is not None
    backlog = stack.proxy.dispatcher.backlog
    data = request("/generate", generate(), tenant="alice")
    async with RawClient(stack.data) as client:
        client.send(data[:-5])
        await until(lambda: bool(list(backlog.jobs())))
        versions.apply(stack, tenants=[{"name": "bob"}])
        client.send(data[-5:])
        assert (await client.reply()).status == 401
    await relayed(stack, scripted, request("/generate", generate(), tenant="bob"), GENERATED)
    await until(written(trace, 1))
    assert column(trace.rows, "tenant") == [("bob",)]


async def test_who_hangs_up_is_recorded_at_once_where_the_engine_is_cut_off(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until, trace: TraceFile
) -> None:
    stack = await start_proxy(scripted.port, recording=trace.recording, backpressure=ONE_AT_A_TIME)
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted)
        await crowd.join("queued", "bob")
        for name in ("queued", "occupant"):
            crowd.hang_up(name)
        await play.closed_by_proxy()
        await until(written(trace, 2))
    assert column(trace.rows, "tenant", "outcome") == [("alice", "client_gone"), ("bob", "client_gone")]


async def test_who_hangs_up_is_recorded_later_where_the_engine_works_on_for_nobody(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until, trace: TraceFile
) -> None:
    """What it has made is what really came of the request."""
    stack = await start_proxy(scripted.port, kind="LlamaCpp", recording=trace.recording)
    assert stack.proxy is not None
    async with Crowd(stack) as crowd:
        await crowd.join("plain", "alice", {"prompt": "hello", "max_tokens": 9}, "/v1/completions")
        play = await scripted.play()
        crowd.hang_up("plain")
        await until(lambda: stack.proxy is not None and not stack.proxy.data_port.handling)
        await asyncio.sleep(0.02)
        assert trace.rows == []
        usage = {"prompt_tokens": 6, "completion_tokens": 9}
        play.answer(json_reply({"choices": [{"index": 0, "text": "x"}], "usage": usage}))
        await until(written(trace, 1))
    assert column(trace.rows, *TOKENS, "outcome") == [("alice", "6", "9", "client_gone")]


async def test_several_sequences_are_one_row_with_the_tokens_of_all(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until, trace: TraceFile
) -> None:
    stack = await start_proxy(scripted.port, kind="VLLM", recording=trace.recording)
    body = {"prompt": "hello", "n": 3, "max_tokens": 10}
    usage = {"prompt_tokens": 2, "completion_tokens": 24}
    answer = json_reply({"choices": [{"index": number, "text": "x"} for number in range(3)], "usage": usage})
    await relayed(stack, scripted, request("/v1/completions", body, tenant="alice"), answer)
    await until(written(trace, 1))
    assert column(trace.rows, "prompt_tokens", "output_tokens", "max_tokens") == [("6", "24", "30")]


async def test_under_a_policy_that_observes_it_is_written_what_really_happened(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until, trace: TraceFile
) -> None:
    tenants = [{"name": "alice", "limits": {"maxQueued": 1}}, {"name": "bob"}]
    policy = {"tenants": tenants, "backpressure": ONE_AT_A_TIME, "mode": "Observe"}
    stack = await start_proxy(scripted.port, recording=trace.recording, **policy)
    async with Crowd(stack) as crowd:
        for number in range(4):
            await crowd.join(f"{number}", "alice", path=STREAM)
        plays = [await scripted.play() for _ in range(4)]
        for play in reversed(plays):
            play.answer(STREAMED)
        assert {await crowd.status(name) for name in crowd.tasks} == {200}
    # Nobody but the engine can read these.
    for status in (200, 422):
        data = request("/generate", b"{", tenant="bob")
        await relayed(stack, scripted, data, json_reply({}, status))
    await until(written(trace, 6))
    assert column(trace.rows, *TOKENS, "outcome") == [
        *[("alice", "5", "3", "completed")] * 4,
        ("bob", "1", "0", "completed"),
        ("bob", "1", "0", "engine_error"),
    ]


async def test_who_belongs_to_no_tenant_is_anonymous_and_identities_are_pseudonyms(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until, trace: TraceFile
) -> None:
    header = {"name": "X-Tenant", "trustedCIDRs": [f"{GATEWAY}/32"]}
    sources = [{"name": "gateway", "type": "Header", "header": header}, {"name": "key", "type": "APIKey", "apiKey": {}}]
    identity = {"onUnidentified": "Anonymous", "sources": sources}
    policy = {"identity": identity, "anonymous": {}, "tenants": [{"name": "bob"}], "backpressure": ONE_AT_A_TIME}
    stack = await start_proxy(scripted.port, recording=trace.recording, **policy)
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted, "bob")
        for number, identity_header in enumerate(("carol", "carol", "dave")):
            await crowd.join(f"{number}", headers={"X-Tenant": identity_header}, source=GATEWAY)
        await crowd.join("nobody")
        await serve_in_turn(scripted, play, 4)
        await until(written(trace, 5))
    assert column(trace.rows, "tenant") == [("bob",), *[("anonymous",)] * 4]
    of_key, carol, again, dave, nobody = (row["user"] for row in trace.rows)
    assert (of_key, nobody) == ("", "")
    assert carol == again != dave
    assert "carol" not in trace.text


class FullFile(BytesIO):
    """A disk that is full from the start."""

    def write(self, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_full_disk_harms_no_request(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    stack = await start_proxy(scripted.port, recording=Recording(FullFile(), "trace.csv", b"key"))
    await until(lambda: bool(caplog.records))
    for _ in range(2):
        _, reply = await relayed(stack, scripted, request(STREAM, generate(), tenant="alice"), STREAMED)
        assert reply.status == 200
    assert [line.getMessage() for line in caplog.records if line.levelname != "INFO"] == [
        "the recording in trace.csv has ended: No space left on device; requests are served as before"
    ]


async def test_the_proxy_writes_the_last_rows_when_it_stops(
    start_proxy: StartProxy, scripted: ScriptedEngine, trace: TraceFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_lines, "FLUSH_SECONDS", 1000.0)
    stack = await start_proxy(scripted.port, recording=trace.recording)
    assert stack.proxy is not None
    await relayed(stack, scripted, request(STREAM, generate(), tenant="bob"), STREAMED)
    async with RawClient(stack.data) as client:
        client.send(request(STREAM, generate(), tenant="alice"))
        await scripted.play()
        await stack.proxy.stop()
    assert column(trace.rows, "tenant", "outcome") == [("bob", "completed"), ("alice", "client_gone")]
