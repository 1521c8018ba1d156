"""Free routes: what the engine says is what the client gets, without a key, a place or a charge; and what engines say
of themselves is read with care."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from fairqueue_proxy import passing
from fairqueue_proxy.capacity import EngineReport
from fairqueue_proxy.engine_reports import REPORTS, read_limits
from proxy.conftest import StartProxy
from proxy.crowd import ONE_AT_A_TIME, Crowd, generate, occupy, serve_in_turn
from proxy.raw_client import RawClient, ask, request
from proxy.samples import sample, samples
from proxy.scripted_engine import ScriptedEngine
from proxy_stack import key_of

DATA = Path(__file__).resolve().parents[1] / "data"
# A free route that the proxy does not ask for by itself.
DOCS = "GET /docs"
PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nETag: x\r\nContent-Length: 5\r\n\r\n<hi/>"


def get(path: str, tenant: str | None = None) -> bytes:
    return request(path, method="GET", tenant=tenant)


async def test_without_a_key_the_engines_answer_comes_as_it_is(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    scripted.answers[DOCS] = PAGE
    scripted.answers["GET /docs/x?a=b%20c"] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone"
    stack = await start_proxy(scripted.port)
    async with RawClient(stack.data) as client:
        reply = await client.ask(get("/docs"))
        assert (reply.status, reply.body) == (200, b"<hi/>")
        assert (reply.headers["content-type"], reply.headers["etag"]) == ("text/html", "x")
        assert reply.headers["content-length"] == "5"
        missing = await client.ask(get("/docs/x?a=b%20c"))
        assert (missing.status, missing.body) == (404, b"none")
    assert 'outcome="completed"} 1' not in await stack.metrics()


async def test_a_clients_key_does_not_reach_the_engine_on_free_routes_either(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    scripted.answers[DOCS] = PAGE
    stack = await start_proxy(scripted.port)
    await ask(stack.data, get("/docs", "alice"))
    (asked,) = [head for head in scripted.asked if head.startswith(b"GET /docs ")]
    assert key_of("alice").encode() not in asked
    assert b"accept-encoding: identity" in asked.lower()


async def test_a_full_engine_answers_free_routes_past_the_queue(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    scripted.answers[DOCS] = PAGE
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME)
    async with Crowd(stack) as crowd:
        await occupy(crowd, scripted)
        await crowd.join("waiting", "bob")
        assert (await ask(stack.data, get("/docs"))).status == 200
        assert crowd.waiting() == ["occupant", "waiting"]


async def test_head_and_options_are_relayed_with_no_body_and_no_length_made_up(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    scripted.answers["HEAD /docs"] = PAGE[:-5]
    scripted.answers["OPTIONS /generate"] = b"HTTP/1.1 204 No Content\r\nAccess-Control-Allow-Methods: POST\r\n\r\n"
    stack = await start_proxy(scripted.port)
    async with RawClient(stack.data) as client:
        client.send(request("/docs", method="HEAD"))
        status, headers = await client.head()
        assert (status, headers["etag"]) == (200, "x")
        # It would be that of a GET.
        assert headers.get("content-length") in (None, "5")
        assert "transfer-encoding" not in headers
        client.send(request("/generate", method="OPTIONS"))
        status, headers = await client.head()
        assert (status, headers["access-control-allow-methods"]) == (204, "POST")
        assert not headers.keys() & {"content-length", "transfer-encoding"}
        # Nothing has come after either head.
        assert (await client.ask(get("/health"))).status == 200


TGI_GAUGE = b"# HELP tgi_queue_size Current queue size\n# TYPE tgi_queue_size gauge\ntgi_queue_size %s\n"
LLAMA_GAUGE = b"# TYPE llamacpp:requests_deferred gauge\nllamacpp:requests_deferred %s\nllamacpp:other 1\n"


@pytest.mark.parametrize(
    ("kind", "path", "text"),
    [
        pytest.param("TGI", "/generate", TGI_GAUGE, id="tgi"),
        pytest.param("TGI", "/generate", TGI_GAUGE.replace(b"size %s", b'size{model="a b",x="1"} %s'), id="labels"),
        pytest.param("LlamaCpp", "/completion", LLAMA_GAUGE, id="llama.cpp"),
    ],
)
async def test_our_queue_is_added_to_what_waits_in_the_engine(
    start_proxy: StartProxy, scripted: ScriptedEngine, kind: str, path: str, text: bytes
) -> None:
    scripted.metrics = text % b"3"
    stack = await start_proxy(scripted.port, kind=kind, backpressure=ONE_AT_A_TIME)
    async with Crowd(stack) as crowd:
        body = {**generate(), "prompt": "x"}
        assert (await ask(stack.data, get("/metrics"))).body == text % b"3"
        await crowd.join("occupant", "alice", body, path)
        play = await scripted.play()
        # What is in the engine is the engine's to report.
        assert (await ask(stack.data, get("/metrics"))).body == text % b"3"
        for name in ("first", "second"):
            await crowd.join(name, "bob", body, path)
        reply = await ask(stack.data, get("/metrics"))
        assert reply.body == text % b"5"
        assert reply.headers["content-length"] == str(len(reply.body))
        await serve_in_turn(scripted, play, 2)


@pytest.mark.parametrize(
    "text", [b"", b"tgi_request_count 7\n", b"tgi_request_count 7"], ids=["none", "some", "no end"]
)
async def test_our_queue_is_told_though_the_engine_has_never_set_its_own_gauge(
    start_proxy: StartProxy, scripted: ScriptedEngine, text: bytes
) -> None:
    scripted.metrics = text
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME)
    assert (await ask(stack.data, get("/metrics"))).body == text
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted)
        for name in ("first", "second"):
            await crowd.join(name, "bob")
        found = samples((await ask(stack.data, get("/metrics"))).body.decode())
        assert found.pop(("tgi_queue_size", ())) == 2
        assert found == samples(text.decode())
        await serve_in_turn(scripted, play, 2)


async def test_an_engine_that_refuses_connections_is_503_at_once(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    """Whoever probes the engine this way is to know it now, not when requests no longer wait for it."""
    stack = await start_proxy(scripted.port)
    await scripted.stop()
    started_at = time.monotonic()
    reply = await ask(stack.data, get("/health"))
    assert time.monotonic() - started_at < 2
    assert (reply.status, reply.json["error"]["reason"]) == (503, "engine_unavailable")
    assert 1 <= int(reply.headers["retry-after"]) <= 120
    assert sample(await stack.metrics(), "requests_total", tenant="", outcome="engine_unavailable") == 1


BROKEN = {
    "closed without a word": b"",
    "cut in the head": b"HTTP/1.1 200 OK\r\nContent-",
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
async def test_an_answer_that_breaks_off_is_502(
    start_proxy: StartProxy, scripted: ScriptedEngine, answer: bytes
) -> None:
    scripted.answers[DOCS] = answer
    stack = await start_proxy(scripted.port)
    reply = await ask(stack.data, get("/docs"))
    assert (reply.status, reply.json["error"]["reason"]) == (502, "engine_error")
    assert "etag" not in reply.headers
    assert sample(await stack.metrics(), "requests_total", tenant="", outcome="engine_error") == 1


@pytest.mark.parametrize("framing", [b"Content-Length: 10\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"])
async def test_an_answer_that_breaks_off_later_reaches_the_client_as_broken(
    start_proxy: StartProxy, scripted: ScriptedEngine, framing: bytes
) -> None:
    scripted.answers[DOCS] = b"HTTP/1.1 200 OK\r\n" + framing
    stack = await start_proxy(scripted.port)
    async with RawClient(stack.data) as client:
        client.send(get("/docs"))
        with pytest.raises(asyncio.IncompleteReadError):
            await client.reply()


async def test_an_answer_that_does_not_come_is_504_and_given_up(
    start_proxy: StartProxy, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert passing.ANSWER_SECONDS == 60.0
    monkeypatch.setattr(passing, "ANSWER_SECONDS", 0.05)
    scripted.answers[DOCS] = None
    stack = await start_proxy(scripted.port)
    reply = await ask(stack.data, get("/docs"))
    assert (reply.status, reply.json["error"]["reason"]) == (504, "engine_error")
    async with asyncio.timeout(5):
        await scripted.given_up.wait()


async def test_when_the_client_goes_the_engine_is_not_asked_any_longer(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    scripted.answers[DOCS] = None
    stack = await start_proxy(scripted.port)
    async with RawClient(stack.data) as client:
        client.send(get("/docs"))
        async with asyncio.timeout(5):
            while not any(head.startswith(b"GET /docs") for head in scripted.asked):
                await asyncio.sleep(0.001)
        client.close()
        async with asyncio.timeout(5):
            await scripted.given_up.wait()


async def test_a_long_answer_is_passed_on_as_it_comes(start_proxy: StartProxy, scripted: ScriptedEngine) -> None:
    page = b"x" * 20_000_000
    scripted.answers[DOCS] = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(page), page)
    stack = await start_proxy(scripted.port)
    reply = await ask(stack.data, get("/docs"))
    assert reply.body == page


async def test_a_free_route_can_only_be_read(start_proxy: StartProxy, scripted: ScriptedEngine) -> None:
    stack = await start_proxy(scripted.port)
    for method in ("POST", "PUT", "DELETE"):
        assert (await ask(stack.data, request("/health", method=method, tenant="alice"))).status == 403
    assert scripted.unanswered == 0


@pytest.mark.parametrize(
    ("kind", "content", "report"),
    [
        pytest.param(
            "TGI",
            {"max_concurrent_requests": 128, "max_total_tokens": 4096, "model_id": "x"},
            EngineReport(concurrency_limit=128, context_tokens=4096),
            id="tgi",
        ),
        pytest.param(
            "TGI",
            {"max_best_of": 2, "max_client_batch_size": 4},
            EngineReport(most_sequences=4),
            id="tgi, as many prompts as it takes",
        ),
        pytest.param(
            "TGI",
            {"max_best_of": 8, "max_client_batch_size": 4},
            EngineReport(most_sequences=8),
            id="tgi, as many samples as it takes",
        ),
        pytest.param("TGI", {"max_best_of": 2}, EngineReport(), id="tgi, in part"),
        pytest.param(
            "LlamaCpp",
            {"total_slots": 4, "default_generation_settings": {"n_ctx": 2048, "params": {}}},
            EngineReport(batch_limit=4, kv_tokens=8192, context_tokens=2048),
            id="llama.cpp",
        ),
        pytest.param("LlamaCpp", {"total_slots": 4}, EngineReport(batch_limit=4), id="llama.cpp, in part"),
        pytest.param("OpenAI", {"data": []}, EngineReport(), id="openai tells nothing"),
        pytest.param("TGI", {"max_concurrent_requests": "many"}, EngineReport(), id="wrong type"),
        pytest.param("LlamaCpp", [], EngineReport(), id="no object"),
    ],
)
def test_limits_are_read_as_far_as_they_can_be(kind: str, content: object, report: EngineReport) -> None:
    assert read_limits(kind, json.dumps(content).encode()) == report


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"<html>"])
def test_limits_that_are_no_json_are_none(body: bytes) -> None:
    assert read_limits("TGI", body) == read_limits("LlamaCpp", body) == EngineReport()


TGI = REPORTS["TGI"]
assert TGI.metrics is not None
GAUGES = TGI.metrics


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param(b"tgi_queue_size 2\n", 2, id="plain"),
        pytest.param(b"tgi_queue_size 2", 2, id="no line end"),
        pytest.param(b"tgi_queue_size 2.5e1 1732345678000\n", 25, id="exponent and time"),
        pytest.param(b'tgi_queue_size{a="1"} 2\ntgi_queue_size{a="2"} 3\n', 5, id="several series"),
        pytest.param(b"tgi_queue_size_other 2\nmy_tgi_queue_size 3\n", 0, id="others of similar name"),
        pytest.param(b"# tgi_queue_size 7\n", 0, id="comment"),
        pytest.param(b"tgi_request_count 7\n", 0, id="never set"),
        pytest.param(b"", None, id="no text"),
    ],
)
def test_a_gauge_is_summed_over_its_series(text: bytes, value: float | None) -> None:
    assert GAUGES.gauge("tgi_queue_size", text) == value


def test_an_engine_without_the_gauge_has_none_and_its_text_stays_as_it_is() -> None:
    openai = REPORTS["OpenAI"]
    assert openai.metrics is None
    assert openai.with_our_queue(b"x 1\n", 5) == b"x 1\n"


@pytest.mark.parametrize("value", [b"NaN", b"+Inf", b"-Inf", b"", b"-", b"1e", b"x"])
def test_a_gauge_that_holds_no_number_is_left_as_it_is(value: bytes) -> None:
    text = b"tgi_queue_size %s\nother 1\n" % value
    assert TGI.with_our_queue(text, 5) == text


def test_of_several_series_one_gets_our_queue_and_times_stay() -> None:
    text = b'tgi_queue_size{a="1"} 2 1732345678000\ntgi_queue_size{a="2"} 3\n'
    assert TGI.with_our_queue(text, 4) == text.replace(b"} 2 ", b"} 6 ")
    assert GAUGES.gauge("tgi_queue_size", TGI.with_our_queue(text, 4)) == 9


def test_all_digits_of_a_gauge_stay() -> None:
    assert TGI.with_our_queue(b"tgi_queue_size 12345678\n", 5) == b"tgi_queue_size 12345683\n"
    assert TGI.with_our_queue(b"tgi_queue_size 2.5\n", 5) == b"tgi_queue_size 7.5\n"


def test_what_a_real_router_says_of_the_sequences_that_it_takes_is_read() -> None:
    case = json.loads((DATA / "tgi" / "10-info.json").read_text())
    body = "".join(part for _, part in case["response"]["chunks"]).encode()
    assert read_limits("TGI", body).most_sequences == 4


def test_in_what_a_real_router_says_nothing_but_the_gauge_changes() -> None:
    case = json.loads((DATA / "tgi" / "10-metrics-busy.json").read_text())
    text = "".join(part for _, part in case["response"]["chunks"]).encode()
    assert (GAUGES.read(text).waiting, GAUGES.read(text).running) == (2, 3)
    assert TGI.with_our_queue(text, 0) == text
    assert TGI.with_our_queue(text, 40) == text.replace(b"\ntgi_queue_size 2\n", b"\ntgi_queue_size 42\n")
