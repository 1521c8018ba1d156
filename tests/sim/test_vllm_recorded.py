"""The vLLM simulator gives the replies that the real server gave, apart from what `sim.vllm_replay` lists."""

import asyncio
from typing import Any

import pytest

from fairqueue_sim import Outcome, running_engine
from sim.replay import Connection, Reply, exchange, get, request_bytes
from sim.vllm_replay import SERVED, marked, vllm_normalised, vllm_recording, vllm_reply
from sim.watched import WatchedTruth

SINGLE = [
    *("01-chat-plain", "01-chat-plain-max1", "01-chat-plain-n2", "01-chat-plain-logprobs"),
    *("01-chat-stream", "01-chat-stream-usage", "01-chat-stream-usage-false", "01-chat-stream-max1"),
    *("01-chat-stream-continuous-usage", "01-chat-stream-continuous-usage-only", "01-chat-stream-n2"),
    *("01-chat-stream-logprobs", "01-chat-stream-token-ids"),
    *("02-completions-plain", "02-completions-plain-n2", "02-completions-plain-two-prompts"),
    *("02-completions-plain-six-prompts", "02-completions-plain-token-prompt", "02-completions-plain-best-of"),
    *("02-completions-plain-logprobs", "02-completions-stream", "02-completions-stream-usage"),
    *("02-completions-stream-continuous-usage", "02-completions-stream-max1", "02-completions-stream-n2"),
    *("02-completions-stream-default-max", "02-completions-stream-echo", "02-completions-stream-two-prompts"),
    *("02-completions-stream-two-prompts-n2", "02-completions-stream-logprobs"),
    *("04-responses-plain", "04-responses-stream", "04-responses-background"),
    *("04-messages-plain", "04-messages-stream", "04-messages-count-tokens"),
    *("05-health", "05-ping", "05-version", "05-load", "05-models", "05-tokenize", "05-tokenize-messages"),
    "05-detokenize",
]
# What the simulator does not look at; bodies that the recording cut; and the unions of pydantic that list every member.
LEFT_OUT = (
    *("content a number", "no role", "prompt [99999]", "response_format", "logit_bias", "bad_words", "stop_token_ids"),
    *("too long", "scale_elastic_ep", "scaling_elastic_ep", "abort_requests", "GET unknown", "cancel unknown"),
    *("HTTP/1.0", "not HTTP", "OPTIONS", "invalid UTF-8"),
    "responses: no input",
)


@pytest.mark.parametrize("case", SINGLE)
async def test_a_recorded_request_gets_the_recorded_reply(case: str) -> None:
    recorded = vllm_recording(case)
    request = recorded["request"]
    async with running_engine("vllm", **SERVED, slots=4) as engine:
        got = await exchange(engine.port, request_bytes(request, engine.port), method=request["method"])
    assert vllm_normalised(got) == vllm_reply(recorded["response"])


@pytest.mark.parametrize("case", ["03-interval4-chat-stream", "03-interval4-completions-stream"])
async def test_several_tokens_share_a_chunk_as_recorded(case: str) -> None:
    recorded = vllm_recording(case)
    async with running_engine("vllm", **SERVED) as engine:
        got = await exchange(engine.port, request_bytes(marked(recorded["request"], "[[merge=4]]"), engine.port))
    assert vllm_normalised(got) == vllm_reply(recorded["response"])


@pytest.mark.parametrize("case", ["06-errors-chat", "06-errors-chat-more", "06-errors-others", "06-http-odds"])
async def test_odd_requests_are_refused_or_taken_as_recorded(case: str) -> None:
    compared = 0
    async with running_engine("vllm", **SERVED, speed=1000) as engine:
        for recorded in vllm_recording(case)["exchanges"]:
            label, request, response = recorded["label"], recorded["request"], recorded["response"]
            if any(words in label for words in LEFT_OUT):
                continue
            if label == "no content-type":
                request = request | {"headers": [["host", "x"], ["content-length", str(len(request["body"]))]]}
            got = await _reply(engine.port, request_bytes(request, engine.port))
            assert got.status == response["status"], label
            if not any(" ... " in text for _, text in response["chunks"]):
                expected = [text.replace("PORT", str(engine.port)) for text in vllm_reply(response).chunks]
                assert vllm_normalised(got).chunks == expected, label
            compared += 1
    assert compared > 9


async def _reply(port: int, data: bytes) -> Any:
    connection = await Connection.to(port)
    await connection.send(data)
    got = await connection.reply()
    if got.status == 100:
        got = await connection.reply()
    await connection.close()
    return got


async def test_a_full_engine_refuses_on_every_route_as_recorded() -> None:
    exchanges = vllm_recording("07-overload-queue-limit")["exchanges"]
    truth = WatchedTruth()
    async with running_engine("vllm", **SERVED, truth=truth, slots=4, max_concurrent_requests=6, speed=0.1) as engine:
        held = []
        for recorded in exchanges:
            data = request_bytes(recorded["request"], engine.port)
            if recorded["label"].startswith(("runs", "waits")):
                held.append(await Connection.to(engine.port))
                await held[-1].send(data)
                await held[-1].head()
            elif recorded["label"].startswith("refused"):
                got = await exchange(engine.port, data)
                expected = vllm_reply(recorded["response"])
                assert (got.status, vllm_normalised(got).chunks) == (expected.status, expected.chunks)
        await truth.until(lambda: all(request.made_tokens for request in truth.requests[:4]))
        assert (engine.model.running, engine.model.waiting) == (4, 2)
        assert [request.outcome for request in truth.requests[6:]] == [Outcome.REFUSED] * (len(truth) - 6)
        for connection in held:
            await connection.close()


async def test_what_turns_out_to_be_too_much_after_the_head_is_an_error_event() -> None:
    async with running_engine("vllm", **SERVED, slots=4, max_concurrent_requests=6) as engine:
        for recorded in vllm_recording("07-overload-queue-limit-prompts")["exchanges"]:
            got = await exchange(engine.port, request_bytes(recorded["request"], engine.port))
            expected = vllm_reply(recorded["response"])
            assert (got.status, vllm_normalised(got).chunks) == (expected.status, expected.chunks), recorded["label"]


@pytest.mark.parametrize("case", ["09-abort-requests-stream", "09-abort-requests-plain"])
async def test_anybody_can_end_a_request_by_its_id_as_recorded(case: str) -> None:
    victim, aborter = vllm_recording(case)["exchanges"]
    truth = WatchedTruth()
    async with running_engine("vllm", **SERVED, truth=truth) as engine:
        waiting = asyncio.create_task(exchange(engine.port, request_bytes(victim["request"], engine.port)))
        await truth.until(lambda: bool(truth.requests) and truth.requests[0].made_tokens > 5)
        aborted = await exchange(engine.port, request_bytes(aborter["request"], engine.port))
        reply = vllm_normalised(await waiting)
        assert engine.model.kv_used_tokens == 0
    assert vllm_normalised(aborted) == vllm_reply(aborter["response"])
    expected = vllm_reply(victim["response"])
    assert reply.headers == expected.headers
    if "stream" in case:
        assert (reply.chunks[:2], reply.chunks[-2:]) == (expected.chunks[:2], expected.chunks[-2:])
    assert '"finish_reason":"abort"' in "".join(reply.chunks)
    assert truth.requests[0].outcome is Outcome.ABORTED
    assert truth.requests[0].made_tokens == truth.requests[0].sent_tokens < 1500


@pytest.mark.parametrize("label", ["stream 1", "plain", "completions stream", "messages stream, waits"])
async def test_a_dying_engine_ends_streams_and_replies_as_recorded(label: str) -> None:
    (recorded,) = (e for e in vllm_recording("06-error-engine-dies")["exchanges"] if e["label"] == label)
    request, response = marked(recorded["request"], "[[fail=3]]"), recorded["response"]
    async with running_engine("vllm", **SERVED) as engine:
        got = await exchange(engine.port, request_bytes(request, engine.port))
        assert engine.truth.requests[0].outcome is Outcome.ERROR
    ends = 2 if "DONE" in response["chunks"][-1][1] else 1
    assert got.status == response["status"]
    assert got.chunks[-ends:] == [text for _, text in response["chunks"][-ends:]]


async def test_a_dying_engine_closes_a_stream_of_responses_without_a_last_chunk() -> None:
    exchanges = vllm_recording("06-error-engine-dies")["exchanges"]
    (recorded,) = (e for e in exchanges if e["label"] == "responses stream, waits")
    async with running_engine("vllm", **SERVED) as engine:
        connection = await Connection.to(engine.port)
        await connection.send(request_bytes(marked(recorded["request"], "[[fail=1]]"), engine.port))
        _, headers = await connection.head()
        chunks = [await connection.chunk() for _ in recorded["response"]["chunks"]]
        assert vllm_normalised(Reply(200, headers, chunks)) == vllm_reply(recorded["response"])
        assert await connection.reader.read() == b""
        await connection.close()


async def test_the_exported_families_and_labels_are_a_subset_of_the_recorded() -> None:
    (_, recorded), *_ = vllm_recording("05-metrics")["response"]["chunks"]
    async with running_engine("vllm", **SERVED) as engine:
        text = (await exchange(engine.port, get("/metrics"), method="GET")).chunks[0]
    known = {line.rpartition(" ")[0] for line in recorded.splitlines()}
    for line in text.splitlines():
        if "cache_config_info{" not in line:
            assert line.rpartition(" ")[0] in known
    for label in ("block_size=", "kv_cache_size_tokens=", "num_gpu_blocks="):
        assert label in recorded
        assert label in text
