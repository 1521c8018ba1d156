"""The SGLang simulator, held to what is known from its source."""

import asyncio
import json
from typing import Any

import pytest

from fairqueue_sim import Outcome, running_engine
from sim.replay import Connection, Reply, exchange, get, post
from sim.watched import WatchedTruth

NUMBERED = {"output_style": "numbered", "model_id": "m"}
USAGE = {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
ROUTES = ["/generate", "/v1/chat/completions", "/v1/completions"]


def ask(content: str, tokens: int = 3, **more: Any) -> dict[str, Any]:
    """A body for every route."""
    conversation = {"messages": [{"role": "user", "content": content}], "prompt": content, "max_tokens": tokens}
    return conversation | {"text": content, "sampling_params": {"max_new_tokens": tokens}} | more


def events(reply: Reply) -> list[dict[str, Any]]:
    assert reply.chunks[-1] == "data: [DONE]\n\n"
    return [json.loads(chunk[6:]) for chunk in reply.chunks[:-1]]


async def values(port: int) -> dict[str, float]:
    lines = (await exchange(port, get("/metrics"), method="GET")).chunks[0].splitlines()
    return {line.partition("{")[0]: float(line.rpartition(" ")[2]) for line in lines if "{" in line}


async def test_native_events_have_the_whole_text_and_count_so_far() -> None:
    async with running_engine("sglang", **NUMBERED) as engine:
        found = events(await exchange(engine.port, post("/generate", ask("a", stream=True))))
        (truth,) = engine.truth.requests
    assert [event["text"] for event in found] == [" word1", " word1 word2", " word1 word2 word3"]
    meta = [event["meta_info"] for event in found]
    assert [each["completion_tokens"] for each in meta] == [1, 2, 3]
    assert {each["prompt_tokens"] for each in meta} == {truth.prompt_tokens}
    assert {each["cached_tokens"] for each in meta} == {0}
    assert [each["finish_reason"] for each in meta] == [None, None, {"type": "length", "length": 3}]


async def test_a_native_reply_is_one_result_or_a_list() -> None:
    async with running_engine("sglang", **NUMBERED) as engine:
        one = json.loads((await exchange(engine.port, post("/generate", ask("[[eos=2]]")))).chunks[0])
        body = {"input_ids": [[5, 6, 7], [8]], "sampling_params": {"max_new_tokens": 1}}
        two = json.loads((await exchange(engine.port, post("/generate", body))).chunks[0])
    assert (one["text"], one["meta_info"]["finish_reason"]["type"]) == (" word1", "stop")
    assert [result["meta_info"]["prompt_tokens"] for result in two] == [3, 1]


@pytest.mark.parametrize("path", ROUTES[1:])
async def test_a_plain_reply_has_text_reason_and_usage(path: str) -> None:
    async with running_engine("sglang", **NUMBERED) as engine:
        found = json.loads((await exchange(engine.port, post(path, ask("a", 9, n=2, stop="word3")))).chunks[0])
        (truth,) = engine.truth.requests
    assert [choice["index"] for choice in found["choices"]] == [0, 1]
    choice = found["choices"][0]
    assert (choice.get("text") or choice["message"]["content"]) == " word1 word2 "
    assert (choice["finish_reason"], choice["matched_stop"]) == ("stop", "word3")
    assert found["usage"]["completion_tokens"] == truth.made_tokens == truth.sent_tokens == 6


@pytest.mark.parametrize("path", ROUTES[1:])
async def test_usage_is_in_every_chunk_and_summed_in_the_last(path: str) -> None:
    async with running_engine("sglang", **NUMBERED) as engine:
        found = events(await exchange(engine.port, post(path, ask("a", **USAGE))))
    counts = [event["usage"]["completion_tokens"] for event in found if event["usage"] is not None]
    assert counts == ([0, 1, 2, 3, 3] if "chat" in path else [1, 2, 3, 3])
    assert found[-1]["choices"] == []


@pytest.mark.parametrize("path", ROUTES[1:])
async def test_without_being_asked_there_is_no_usage(path: str) -> None:
    async with running_engine("sglang", **NUMBERED) as engine:
        found = events(await exchange(engine.port, post(path, ask("a", stream="true"))))
    assert all(event["usage"] is None and event["choices"] for event in found)


async def test_a_chat_stream_ends_with_a_reason_that_stands_for_tokens_without_text() -> None:
    async with running_engine("sglang", **NUMBERED) as engine:
        found = events(await exchange(engine.port, post("/v1/chat/completions", ask("[[eos=3]]", 9, **USAGE))))
        (truth,) = engine.truth.requests
    assert found[-2]["choices"][0]["finish_reason"] == "stop"
    assert found[-1]["usage"]["completion_tokens"] == truth.made_tokens == truth.sent_tokens == 3


@pytest.mark.parametrize("path", ROUTES)
async def test_a_full_queue_is_a_503_or_an_event_of_a_stream(path: str) -> None:
    truth = WatchedTruth()
    async with running_engine("sglang", truth=truth, slots=1, max_concurrent_requests=1) as engine:
        busy = await Connection.to(engine.port)
        await busy.send(post("/generate", ask("[[slow=50]]", 90, stream=True)))
        await busy.head()
        plain = await exchange(engine.port, post(path, ask("a")))
        (event,) = events(await exchange(engine.port, post(path, ask("a", stream=True))))
        await busy.close()
    assert (plain.status, json.loads(plain.chunks[0])["message"]) == (503, "The request queue is full.")
    error = event["meta_info"]["finish_reason"] if path == "/generate" else event["error"]
    assert error["message"] == "The request queue is full."
    assert [request.outcome for request in truth.requests[1:]] == [Outcome.REFUSED, Outcome.REFUSED]


@pytest.mark.parametrize("path", ROUTES)
async def test_anybody_can_abort_by_rid_or_all(path: str) -> None:
    truth = WatchedTruth()
    async with running_engine("sglang", truth=truth) as engine:
        for number, abort in enumerate(({"rid": "mine"}, {"abort_all": True}), 1):
            body = ask("[[slow=20]]", 500, rid="mine", stream=True)
            waiting = asyncio.create_task(exchange(engine.port, post(path, body)))
            await truth.until(lambda number=number: bool(len(truth) == number and truth.requests[-1].made_tokens))  # type: ignore[misc]
            assert (await exchange(engine.port, post("/abort_request", abort))).status == 200
            assert '"abort"' in (await waiting).chunks[-2]
            assert truth.requests[-1].outcome is Outcome.ABORTED


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("stream", [False, True])
async def test_who_leaves_is_aborted(path: str, stream: bool) -> None:
    truth = WatchedTruth()
    async with running_engine("sglang", truth=truth) as engine:
        connection = await Connection.to(engine.port)
        await connection.send(post(path, ask("[[slow=20]]", 500, stream=stream)))
        await truth.until(lambda: bool(truth.requests) and truth.requests[0].made_tokens >= 2)
        connection.writer.close()
        left = await truth.until_ended()
        assert left.outcome is Outcome.CANCELLED
        assert (left.made_tokens < 10, engine.model.kv_used_tokens) == (True, 0)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/v1/chat/completions", {}, "Field required"),
        ("/v1/completions", ask(""), "Prompt cannot be empty"),
        ("/generate", ask(""), "Prompt cannot be empty"),
        ("/generate", ask("", stream=True), "Prompt cannot be empty"),
        ("/v1/completions", ask("a " * 5000), "longer than the model's context length"),
        ("/v1/completions", ask("[[fail=1]]"), "simulated failure"),
        ("/v1/completions", ask("[[fail=2]]", stream=True), "simulated failure"),
        ("/generate", ask("[[fail=1]]"), "simulated failure"),
        ("/generate", ask("[[fail=2]]", stream=True), "simulated failure"),
        ("/abort_request", {"rid": 5}, "valid string"),
    ],
)
async def test_errors_say_what_is_wrong(path: str, body: dict[str, Any], words: str) -> None:
    async with running_engine("sglang") as engine:
        reply = await exchange(engine.port, post(path, body))
        assert engine.model.running == 0
    assert words in "".join(reply.chunks)


async def test_the_server_says_how_large_it_is() -> None:
    async with running_engine("sglang", slots=7, kv_tokens=900, max_total_tokens=300) as engine:
        info = json.loads((await exchange(engine.port, get("/server_info"), method="GET")).chunks[0])
        exported = await values(engine.port)
        for path in ("/get_model_info", "/v1/models", "/health"):
            assert (await exchange(engine.port, get(path), method="GET")).status == 200
    assert (info["max_running_requests"], info["context_length"], info["max_total_num_tokens"]) == (7, 300, 900)
    assert exported["sglang:max_total_num_tokens"] == 900


async def test_the_gauges_say_who_runs_and_who_waits() -> None:
    truth = WatchedTruth()
    async with running_engine("sglang", truth=truth, slots=1) as engine:
        connections = [await Connection.to(engine.port) for _ in range(3)]
        for connection in connections:
            await connection.send(post("/generate", ask("[[slow=20]]", 500, stream=True)))
        await truth.until(lambda: len(truth) == 3 and truth.requests[0].made_tokens > 0)
        exported = await values(engine.port)
        for connection in connections:
            await connection.close()
    assert (exported["sglang:num_running_reqs"], exported["sglang:num_queue_reqs"]) == (1, 2)
    assert 0 < exported["sglang:token_usage"] < 1
