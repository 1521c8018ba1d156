"""What the dispatcher is told of an engine, over real sockets; and what of the things that it does not tell."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from engines.test_engine_reports import SGLANG_TEXT, recorded, without
from fairqueue_proxy import engine_inquiry
from fairqueue_proxy.capacity import EngineReport
from fairqueue_proxy.engine_watch import EngineWatch
from fairqueue_proxy.upstream import Upstream
from fairqueue_sim import running_engine
from proxy.conftest import StartProxy, Until
from proxy.desk import Desk
from proxy.samples import samples
from proxy.scripted_engine import ScriptedEngine, json_reply
from upstream_engine import full_listener

LOADING = json_reply({"error": {"code": 503, "message": "Loading model"}}, 503)
NO_METRICS = json_reply({"error": {"code": 501, "type": "not_supported_error"}}, 501)


class Looker:
    """A watch over an engine, on a clock that the test moves, and what its dispatcher is told."""

    def __init__(self, kind: str, port: int) -> None:
        self.desk = Desk("alice")
        self.told: list[object] = []
        dispatcher = self.desk.dispatcher
        for name in ("engine_says", "engine_counts", "engine_restarted"):
            setattr(dispatcher, name, self._telling(name.removeprefix("engine_"), getattr(dispatcher, name)))
        self.upstream = Upstream("127.0.0.1", port, clock=self.desk.clock)
        self.watch = EngineWatch(kind, self.upstream, dispatcher, self.desk.clock)

    def _telling(self, name: str, method: Callable[..., None]) -> Callable[..., None]:
        def tell(*told: Any) -> None:
            self.told.append((name, *told))
            method(*told)

        return tell

    async def look(self, *, after_seconds: float = 1.0) -> list[object]:
        """Looks once, and returns what it has told the dispatcher by this."""
        self.desk.clock.now_seconds += after_seconds
        self.told.clear()
        await self.watch.look()
        return list(self.told)


StartLooker = Callable[[str, int], Awaitable[Looker]]


@pytest.fixture
async def start_looker() -> AsyncIterator[StartLooker]:
    async with AsyncExitStack() as stack:

        async def start(kind: str, port: int) -> Looker:
            looker = Looker(kind, port)
            stack.push_async_callback(looker.upstream.close)
            return looker

        yield start


def recorded_engine(scripted: ScriptedEngine, kind: str) -> ScriptedEngine:
    """What real engines have answered; SGLang's is by its source."""
    scripted.metrics = {
        "TGI": lambda: recorded("tgi", "10-metrics-busy"),
        "VLLM": lambda: recorded("vllm", "05-metrics"),
        "LlamaCpp": lambda: recorded("llamacpp", "05-metrics"),
        "SGLang": lambda: SGLANG_TEXT,
    }[kind]()
    scripted.info = {
        "TGI": {"max_concurrent_requests": 128, "max_total_tokens": 4096},
        "VLLM": {"data": [{"max_model_len": 2048}]},
        "LlamaCpp": {"total_slots": 2, "default_generation_settings": {"n_ctx": 2048}},
        "SGLang": {},
    }[kind]
    info = {"max_running_requests": 8, "context_length": 500, "max_total_num_tokens": 9000}
    scripted.answers["GET /server_info"] = json_reply(info)
    return scripted


@pytest.mark.parametrize(
    ("kind", "report", "waiting", "running"),
    [
        ("TGI", EngineReport(concurrency_limit=128, context_tokens=4096), 2, 3),
        ("VLLM", EngineReport(kv_tokens=524288, context_tokens=2048), 0, 0),
        ("LlamaCpp", EngineReport(batch_limit=2, kv_tokens=4096, context_tokens=2048), 0, 0),
        ("SGLang", EngineReport(batch_limit=8, kv_tokens=9000, context_tokens=500), 3, 5),
    ],
)
async def test_limits_are_told_when_they_change_and_what_waits_at_each_look(
    scripted: ScriptedEngine,
    start_looker: StartLooker,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    report: EngineReport,
    waiting: float,
    running: float,
) -> None:
    looker = await start_looker(kind, recorded_engine(scripted, kind).port)
    told = await looker.look()
    assert sorted(told, key=str) == sorted([("counts", waiting), ("says", report)], key=str)
    assert (looker.watch.waiting, looker.watch.running) == (waiting, running)
    assert await looker.look() == [("counts", waiting)]
    assert await looker.look(after_seconds=100.0) == [("counts", waiting)]
    assert caplog.records == []


async def test_limits_are_asked_for_again_after_half_a_minute(
    scripted: ScriptedEngine, start_looker: StartLooker
) -> None:
    looker = await start_looker("LlamaCpp", recorded_engine(scripted, "LlamaCpp").port)
    await looker.look()
    scripted.info = {"total_slots": 3}
    assert await looker.look(after_seconds=29.0) == [("counts", 0.0)]
    assert ("says", EngineReport(batch_limit=3)) in await looker.look()


async def test_tgi_before_its_first_request_tells_of_nothing_that_waits(
    scripted: ScriptedEngine, start_looker: StartLooker, caplog: pytest.LogCaptureFixture
) -> None:
    looker = await start_looker("TGI", scripted.port)
    assert [told[0] for told in await looker.look()] == ["says"]
    assert looker.watch.waiting is None
    scripted.metrics = b"tgi_request_count 1\n"
    assert await looker.look() == [("counts", 0.0)]
    assert caplog.records == []


async def test_another_engine_behind_the_port_has_its_own_limits(
    scripted: ScriptedEngine, start_looker: StartLooker
) -> None:
    looker = await start_looker("LlamaCpp", recorded_engine(scripted, "LlamaCpp").port)
    await looker.look()
    looker.watch.engine_is("OpenAI", None)
    assert await looker.look() == [("says", EngineReport())]
    assert looker.watch.waiting is None


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
async def test_simulated_engines_tell_their_cache(start_looker: StartLooker, kind: str) -> None:
    async with running_engine(kind, kv_tokens=4096) as engine:  # type: ignore[arg-type]
        looker = await start_looker({"vllm": "VLLM", "sglang": "SGLang"}[kind], engine.port)
        says = [told[1] for told in await looker.look() if told[0] == "says"]
    assert [report.kv_tokens for report in says] == [4096]


@pytest.mark.parametrize(
    ("kind", "counter", "again"),
    [
        ("VLLM", b'prompt_tokens_total{engine="0",model_name="tiny"} 506', b'prompt_tokens_total{engine="0"} 3'),
        ("LlamaCpp", b"llamacpp:prompt_tokens_total 165", b"llamacpp:prompt_tokens_total 0"),
        ("TGI", b"tgi_request_count 5", b"tgi_request_count 1"),
        ("SGLang", b"sglang:prompt_tokens_total 70\n", b""),
    ],
)
async def test_an_engine_whose_counter_goes_back_has_restarted(
    scripted: ScriptedEngine, start_looker: StartLooker, kind: str, counter: bytes, again: bytes
) -> None:
    looker = await start_looker(kind, recorded_engine(scripted, kind).port)
    await looker.look()
    assert ("restarted",) not in await looker.look()
    assert counter in scripted.metrics
    scripted.metrics = scripted.metrics.replace(counter, again)
    scripted.asked.clear()
    told = await looker.look()
    # The new one's count comes after the old one's is forgotten.
    assert next(each for each in told if each[0] != "says") == ("restarted",)
    assert ("restarted",) not in await looker.look()
    limits = {"VLLM": b"/v1/models", "LlamaCpp": b"/props", "TGI": b"/info", "SGLang": b"/server_info"}[kind]
    assert sum(head.startswith(b"GET %s " % limits) for head in scripted.asked) == 1


async def test_tgi_whose_metrics_are_empty_again_has_restarted(
    scripted: ScriptedEngine, start_looker: StartLooker
) -> None:
    looker = await start_looker("TGI", recorded_engine(scripted, "TGI").port)
    await looker.look()
    scripted.metrics = b""
    assert await looker.look() == [("restarted",)]
    assert looker.watch.waiting is None


async def test_an_engine_that_refused_connections_and_takes_them_again_has_restarted_once(
    scripted: ScriptedEngine, start_looker: StartLooker
) -> None:
    looker = await start_looker("LlamaCpp", recorded_engine(scripted, "LlamaCpp").port)
    await looker.look()
    port = scripted.port
    await scripted.stop()
    assert await looker.look() == []
    assert not looker.watch.healthy
    await scripted.start(port)
    assert await looker.look() == [("restarted",), ("counts", 0.0)]
    assert await looker.look() == [("counts", 0.0)]


async def test_an_engine_that_is_only_slow_or_ill_has_not_restarted(
    scripted: ScriptedEngine, start_looker: StartLooker, monkeypatch: pytest.MonkeyPatch
) -> None:
    looker = await start_looker("LlamaCpp", recorded_engine(scripted, "LlamaCpp").port)
    await looker.look()
    monkeypatch.setattr(engine_inquiry, "ANSWER_SECONDS", 0.02)
    for answer in (None, LOADING):
        scripted.answers["GET /health"] = answer
        await looker.look()
        assert not looker.watch.healthy
    monkeypatch.undo()
    del scripted.answers["GET /health"]
    assert await looker.look() == [("counts", 0.0)]


async def test_an_engine_to_which_a_connection_takes_too_long_has_not_restarted(
    scripted: ScriptedEngine, start_looker: StartLooker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_inquiry, "ANSWER_SECONDS", 0.05)
    with full_listener() as port:
        looker = await start_looker("OpenAI", port)
        await looker.look()
    assert not looker.watch.healthy
    monkeypatch.undo()
    looker.upstream._port = scripted.port
    assert await looker.look() == []
    assert looker.watch.healthy


async def test_an_engine_found_again_by_those_who_could_not_connect_has_restarted_once_and_no_counter_changes(
    scripted: ScriptedEngine, start_looker: StartLooker, until: Until
) -> None:
    looker = await start_looker("LlamaCpp", recorded_engine(scripted, "LlamaCpp").port)
    await looker.look()
    looker.desk.finish(looker.desk.submit("alice"))
    dispatcher, node = looker.desk.dispatcher, looker.desk.tenants["alice"].node
    service = node.key
    assert service > 0
    looker.told.clear()
    looker.watch.unreachable()
    await until(lambda: not dispatcher.capacity.paused)
    assert looker.told == [("restarted",)]
    assert await looker.look() == [("counts", 0.0)]
    assert node.key == service


VLLM_NAMES = ["vllm:num_requests_waiting", "vllm:num_requests_running", "vllm:cache_config_info"]


async def test_each_name_that_is_missing_is_complained_of_once_and_told_once_when_it_is_back(
    scripted: ScriptedEngine, start_looker: StartLooker, caplog: pytest.LogCaptureFixture
) -> None:
    whole = recorded_engine(scripted, "VLLM").metrics
    scripted.metrics = without(whole, *VLLM_NAMES)
    looker = await start_looker("VLLM", scripted.port)
    for _ in range(3):
        told = await looker.look()
        # Not that none waits: nobody knows.
        assert not [each for each in told if each[0] == "counts"]
    assert looker.watch.waiting is None
    assert [message.split(": fairqueue")[0] for message in caplog.messages] == [
        "the engine's metrics do not tell vllm:num_requests_waiting, how many requests wait in the engine",
        "the engine's metrics do not tell vllm:num_requests_running, how many requests run in it",
        "the engine's metrics do not tell vllm:cache_config_info, the size of its KV cache",
    ]
    assert all("goes on with first tokens alone: vLLM that was started" in message for message in caplog.messages)
    caplog.clear()
    scripted.metrics = whole
    for _ in range(2):
        assert ("counts", 0.0) in await looker.look()
    assert caplog.messages == [f"the engine tells {name} again" for name in VLLM_NAMES]


@pytest.mark.parametrize(
    ("kind", "flag", "answer"),
    [("LlamaCpp", "--metrics", NO_METRICS), ("SGLang", "--enable-metrics", json_reply({"detail": "Not Found"}, 404))],
)
async def test_metrics_that_are_off_are_complained_of_once_with_the_flag_that_turns_them_on(
    scripted: ScriptedEngine,
    start_looker: StartLooker,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    flag: str,
    answer: bytes,
) -> None:
    recorded_engine(scripted, kind).answers["GET /metrics"] = answer
    scripted.answers["GET /slots"] = json_reply([{"is_processing": True}, {"is_processing": False}])
    looker = await start_looker(kind, scripted.port)
    for _ in range(4):
        await looker.look(after_seconds=20.0)
    (complaint,) = caplog.messages
    assert flag in complaint
    assert "first tokens alone" in complaint
    # Nor is it asked at each look.
    assert sum(head.startswith(b"GET /metrics ") for head in scripted.asked) == 2
    assert (looker.watch.waiting, looker.watch.running) == (None, 1 if kind == "LlamaCpp" else None)
    del scripted.answers["GET /metrics"]
    assert [each[0] for each in await looker.look(after_seconds=40.0)] == ["counts"]
    assert caplog.messages[1:] == ["the engine tells /metrics again"]


async def test_llamacpp_without_metrics_and_slots_goes_on(
    scripted: ScriptedEngine, start_looker: StartLooker, caplog: pytest.LogCaptureFixture
) -> None:
    recorded_engine(scripted, "LlamaCpp").answers["GET /metrics"] = NO_METRICS
    scripted.answers["GET /slots"] = NO_METRICS
    looker = await start_looker("LlamaCpp", scripted.port)
    for _ in range(3):
        await looker.look()
    assert looker.watch.healthy
    assert looker.watch.running is None
    assert [message.split(",")[0] for message in caplog.messages] == [
        "the engine answers 501 to GET /metrics",
        "the engine answers 501 to GET /slots",
    ]


async def test_of_other_servers_only_the_health_is_asked_and_nothing_is_said_in_the_log(
    scripted: ScriptedEngine, start_looker: StartLooker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "fairqueue_proxy")
    looker = await start_looker("OpenAI", scripted.port)
    for _ in range(3):
        assert await looker.look(after_seconds=40.0) == []
    assert {head.split()[1] for head in scripted.asked} == {b"/v1/models"}
    assert caplog.records == []


async def test_gauges_that_could_not_be_read_for_a_minute_are_not_shown_and_stop_nothing(
    scripted: ScriptedEngine, start_looker: StartLooker
) -> None:
    looker = await start_looker("TGI", recorded_engine(scripted, "TGI").port)
    await looker.look()
    scripted.answers["GET /metrics"] = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ntgi_queue_size 9"
    assert await looker.look(after_seconds=50.0) == []
    assert looker.watch.waiting == 2
    assert await looker.look(after_seconds=20.0) == []
    assert (looker.watch.waiting, looker.watch.running) == (None, None)
    assert looker.desk.clock() - (looker.watch.scraped_at or 0) == 70.0
    assert looker.watch.healthy
    assert not looker.desk.dispatcher.capacity.paused


async def test_stale_gauges_are_left_out_of_the_metrics_and_their_age_is_told(
    scripted: ScriptedEngine, start_proxy: StartProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = await start_proxy(recorded_engine(scripted, "TGI").port)
    shown = {name for name, _ in samples(await stack.metrics())}
    assert {"fairqueue_engine_waiting_requests", "fairqueue_engine_running_requests"} <= shown
    assert stack.proxy is not None
    scripted.answers["GET /metrics"] = b""
    await stack.proxy.watch.look()
    now = stack.proxy.runtime.clock
    monkeypatch.setattr(stack.proxy.watch._inquiry, "_clock", lambda: now() + 100.0)
    left = {name for name, _ in samples(await stack.metrics())}
    assert shown - left == {"fairqueue_engine_waiting_requests", "fairqueue_engine_running_requests"}
    assert "fairqueue_engine_scrape_age_seconds" in left
