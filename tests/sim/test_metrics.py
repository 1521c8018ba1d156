"""The exposition text of the TGI simulator, held to the recorded router's."""

import asyncio
import re
from typing import Any

import pytest

from fairqueue_sim import running_engine
from sim.replay import RECORDED, Connection, exchange, get, post, recording
from sim.watched import WatchedTruth

INPUTS = "What is deep learning?"
ONE = {"parameters": {"max_new_tokens": 1}}
CHAT = {"messages": [{"role": "user", "content": INPUTS}], "max_tokens": 1}
THREE = {"prompt": [INPUTS] * 3, "max_tokens": 1}
# The requests of 10-metrics-counters, by the names that they have there.
REQUESTS: dict[str, tuple[str, str | dict[str, Any]]] = {
    "/generate": ("/generate", {"inputs": INPUTS, **ONE}),
    "/generate_stream": ("/generate_stream", {"inputs": INPUTS, **ONE}),
    "/": ("/", {"inputs": INPUTS, **ONE}),
    "chat": ("/v1/chat/completions", CHAT),
    "chat stream": ("/v1/chat/completions", CHAT | {"stream": True}),
    "completions": ("/v1/completions", {"prompt": INPUTS, "max_tokens": 1}),
    "completions, 3 prompts": ("/v1/completions", THREE),
    "completions stream, 3 prompts": ("/v1/completions", THREE | {"stream": True}),
    "best_of 2": (
        "/generate",
        {"inputs": INPUTS, "parameters": {"best_of": 2, "do_sample": True, "max_new_tokens": 1}},
    ),
    "validation error": ("/generate", {"inputs": ""}),
    "bad JSON": ("/generate", "{"),
    "best_of in a stream (refused)": ("/generate_stream", {"inputs": INPUTS, "parameters": {"best_of": 2}}),
}


def values(text: str) -> dict[str, int]:
    lines = [line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#")]
    return {name: int(value) for name, _, value in lines}


def families(text: str) -> dict[str, list[str]]:
    """HELP and TYPE lines by family, histograms and summaries left out, and how each family ends."""
    blocks = [block for block in text.split("\n\n") if block]
    heads = {re.sub(r"[{ ].*", "", block.splitlines()[-1]): block for block in blocks if "# TYPE" in block}
    return {
        name: [line for line in block.splitlines() if line.startswith("#")]
        for name, block in heads.items()
        if "histogram" not in block and "summary" not in block
    }


async def scrape(port: int) -> str:
    return "".join((await exchange(port, get("/metrics"), method="GET")).chunks)


async def test_with_three_running_and_two_waiting_the_text_is_as_recorded() -> None:
    recorded = recording("10-metrics-busy")["response"]["chunks"][0][1]
    truth = WatchedTruth()
    async with running_engine("tgi", truth=truth, kv_tokens=121, max_total_tokens=100, speed=5) as engine:
        tasks = []
        for number in range(1, 6):
            # Nine tokens and 30 - 1: each needs 38, so three fit into 120.
            body = {"inputs": "[[slow=50]] a", "parameters": {"max_new_tokens": 30}}
            tasks.append(asyncio.create_task(exchange(engine.port, post("/generate", body))))
            await truth.until(lambda number=number: len(truth) == number)  # type: ignore[misc]
        await truth.until(lambda: truth.requests[0].made_tokens == 12)
        text = await scrape(engine.port)
        await asyncio.gather(*tasks)
        after = values(await scrape(engine.port))
    got, expected = values(text), values("\n".join(re.findall(r"^tgi_\S+(?<!_sum) \d+$", recorded, re.MULTILINE)))
    for name in ("tgi_queue_size", "tgi_batch_current_size", "tgi_batch_current_max_tokens", "tgi_request_count"):
        assert got[name] == expected[name], name
    known = families(recorded)
    assert {name: lines for name, lines in families(text).items() if name in known} == known
    assert text.endswith("\n\n")
    assert (after["tgi_request_success"], after["tgi_queue_size"], after["tgi_batch_current_size"]) == (5, 0, 0)


def _recorded_changes() -> dict[str, dict[str, int]]:
    before: dict[str, int] = {}
    changes = {}
    for label, _, lines in recording("10-metrics-counters")["rows"]:
        now = values("\n".join(lines))
        changes[label] = {name: now[name] - before.get(name, 0) for name in now if now[name] != before.get(name, 0)}
        before = now
    return changes


@pytest.mark.parametrize("label", REQUESTS)
async def test_counters_change_with_each_kind_of_request_as_recorded(label: str) -> None:
    recorded = {name: by for name, by in _recorded_changes()[label].items() if name.startswith("tgi_request")}
    path, body = REQUESTS[label]
    async with running_engine("tgi", **RECORDED) as engine:
        await exchange(engine.port, post(path, body))
        got = values(await scrape(engine.port))
    assert {name: value for name, value in got.items() if name.startswith("tgi_request")} == recorded


async def test_a_stream_that_is_left_counts_as_dropped() -> None:
    truth = WatchedTruth()
    async with running_engine("tgi", truth=truth) as engine:
        connection = await Connection.to(engine.port)
        await connection.send(post("/generate_stream", {"inputs": "[[slow=20]] a"}))
        await connection.chunk_after_head()
        connection.writer.close()
        await truth.until_ended()
        got = values(await scrape(engine.port))
    assert got['tgi_request_failure{err="dropped"}'] == 1
    assert "tgi_request_success" not in got


async def test_failures_are_counted_by_kind() -> None:
    async with running_engine("tgi") as engine:
        await exchange(engine.port, post("/generate", {"inputs": "[[fail=2]]"}))
        got = values(await scrape(engine.port))
    assert got['tgi_request_failure{err="generation"}'] == 1
    assert got['tgi_batch_inference_failure{method="decode"}'] == 1
