"""What the vLLM simulator does beyond the recorded replies: who leaves, who stalls, what is read and not written."""

import asyncio
import json
import socket
import struct
import time
from itertools import pairwise
from typing import Any

import pytest

from fairqueue_sim import Outcome, running_engine
from sim.replay import Connection, Reply, exchange, get, post
from sim.watched import WatchedTruth

ASK = {"messages": [{"role": "user", "content": "[[slow=60]] a"}], "prompt": "[[slow=60]] a", "input": "[[slow=60]] a"}
ROUTES = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"]
LIMITS = {"max_tokens": 200, "max_output_tokens": 200}
USAGE = {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}


def chat(content: str, **more: Any) -> bytes:
    return post("/v1/chat/completions", {"messages": [{"role": "user", "content": content}], **more})


def data_of(reply: Reply) -> list[dict[str, Any]]:
    """The JSON of the events of a stream, [DONE] left out."""
    lines = [chunk.partition("data: ")[2].strip() for chunk in reply.chunks]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def leave(connection: Connection, how: str) -> None:
    if how == "reset":
        raw = connection.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.writer.transport.abort()
    elif how == "half-close":
        connection.writer.write_eof()
    else:
        connection.writer.close()


async def _leave(path: str, how: str, stream: bool) -> None:
    truth = WatchedTruth()
    async with running_engine("vllm", truth=truth) as engine:
        connection = await Connection.to(engine.port)
        await connection.send(post(path, ASK | LIMITS | {"stream": stream}))
        await truth.until(lambda: bool(truth.requests) and truth.requests[0].made_tokens >= 3)
        left_at = time.monotonic()
        leave(connection, how)
        left = await truth.until_ended()
        assert left.outcome is Outcome.CANCELLED
        assert sum(made_at > left_at for made_at in left.made) <= 1, (path, how, stream)
        assert (engine.model.running, engine.model.kv_used_tokens) == (0, 0)
        connection.writer.close()


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
async def test_who_leaves_is_aborted_within_a_step(how: str) -> None:
    # All at once: they wait for the engine's time, not for each other.
    await asyncio.gather(*(_leave(path, how, stream) for path in ROUTES for stream in (False, True)))


@pytest.mark.parametrize("stream", [False, True])
async def test_who_leaves_the_queue_is_never_run(stream: bool) -> None:
    truth = WatchedTruth()
    async with running_engine("vllm", truth=truth, slots=1) as engine:
        busy, queued = await Connection.to(engine.port), await Connection.to(engine.port)
        await busy.send(post("/v1/completions", ASK | LIMITS | {"stream": True}))
        await truth.until(lambda: bool(truth.requests) and truth.requests[0].made_tokens > 0)
        await queued.send(chat("a", stream=stream))
        await truth.until(lambda: len(truth) == 2)
        assert engine.model.waiting == 1
        await queued.close()
        left = await truth.until_ended(2)
        assert (left.outcome, left.made_tokens, engine.model.waiting) == (Outcome.CANCELLED, 0, 0)
        await busy.close()


async def test_a_reader_that_stalls_gets_fewer_and_larger_chunks_and_every_token() -> None:
    truth = WatchedTruth()
    async with running_engine("vllm", truth=truth, speed=1000) as engine:
        slow = await Connection.to(engine.port)
        await slow.send(chat(f"[[word={'x' * 8000}]]", max_tokens=1000, **USAGE))
        await truth.until(lambda: bool(truth.requests) and truth.requests[0].made_tokens == 1000)
        assert engine.model.kv_used_tokens == 0
        events = data_of(await slow.reply())
        await slow.close()
    counts = [event["usage"]["completion_tokens"] for event in events]
    assert max(after - before for before, after in pairwise(counts)) > 100
    assert counts[-1] == 1000
    assert truth.requests[0].sent_tokens == 1000


async def test_a_stop_sequence_is_counted_and_never_sent() -> None:
    async with running_engine("vllm", output_style="numbered") as engine:
        for path in ("/v1/chat/completions", "/v1/completions"):
            body = ASK | {"max_tokens": 20, "stop": ["ord3 wo", "nope"]}
            streamed = data_of(await exchange(engine.port, post(path, body | USAGE)))
            plain = json.loads((await exchange(engine.port, post(path, body))).chunks[0])
            choices = [choice for event in streamed for choice in event["choices"]]
            text = "".join(c["text"] if "text" in c else c["delta"]["content"] for c in choices)
            assert text == " word1 word2 w"
            assert streamed[-1]["usage"]["completion_tokens"] == plain["usage"]["completion_tokens"] == 4
            (choice,) = plain["choices"]
            assert (choice.get("text") or choice["message"]["content"]) == text
            assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", "ord3 wo")


async def test_an_end_token_is_counted_and_has_no_text() -> None:
    async with running_engine("vllm", output_style="numbered") as engine:
        events = data_of(await exchange(engine.port, chat("[[eos=3]]", **USAGE)))
    last = events[-2]
    assert last["choices"][0]["delta"] == {"content": ""}
    assert last["choices"][0]["finish_reason"] == "stop"
    assert [event["usage"]["completion_tokens"] for event in events] == [0, 1, 2, 3, 3]


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
async def test_tokens_without_text_have_no_event_but_are_counted_at_the_end(path: str) -> None:
    content = "[[empty=1]]"
    body = {"messages": [{"role": "user", "content": content}], "input": content, "stream": True}
    async with running_engine("vllm", output_style="numbered") as engine:
        body |= {"max_tokens": 6, "max_output_tokens": 6}
        events = data_of(await exchange(engine.port, post(path, body)))
        (truth,) = engine.truth.requests
    assert sum("delta" in event["type"] and event["type"] != "message_delta" for event in events) == 3
    ends = [event.get("usage") or event.get("response", {}).get("usage") for event in events]
    assert [usage["output_tokens"] for usage in ends if usage] == [6]
    assert (truth.made_tokens, truth.sent_tokens) == (6, 6)


async def test_ignore_eos_makes_outputs_go_on_to_their_limit() -> None:
    async with running_engine("vllm", mean_output_tokens=2) as engine:
        reply = await exchange(engine.port, chat("a", max_tokens=300, ignore_eos=True))
    assert json.loads(reply.chunks[0])["usage"]["completion_tokens"] == 300


async def test_embeddings_read_the_prompt_and_make_no_token() -> None:
    async with running_engine("vllm") as engine:
        reply = await exchange(engine.port, post("/v1/embeddings", {"input": ["a", "b c d"]}))
        text = (await exchange(engine.port, get("/metrics"), method="GET")).chunks[0]
        (truth,) = engine.truth.requests
    found = json.loads(reply.chunks[0])
    assert found["usage"]["prompt_tokens"] == truth.prompt_tokens == 6
    assert len(found["data"]) == 2
    assert (truth.outcome, truth.made_tokens, truth.sent_tokens) == (Outcome.DONE, 0, 0)
    assert 'generation_tokens_total{engine="0",model_name="tiny"} 0.0' in text


async def test_what_is_tokenized_is_what_is_counted() -> None:
    conversation = {"messages": [{"role": "user", "content": "What is deep learning?"}]}
    async with running_engine("vllm") as engine:
        for path, body in (("/v1/chat/completions", conversation), ("/v1/completions", {"prompt": "What is it?"})):
            counted = json.loads((await exchange(engine.port, post("/tokenize", body))).chunks[0])["count"]
            reply = await exchange(engine.port, post(path, body | {"max_tokens": 1}))
            assert json.loads(reply.chunks[0])["usage"]["prompt_tokens"] == counted
        body = conversation | {"max_tokens": 1}
        counted = json.loads((await exchange(engine.port, post("/v1/messages/count_tokens", body))).chunks[0])
        reply = json.loads((await exchange(engine.port, post("/v1/messages", body))).chunks[0])
    assert reply["usage"]["input_tokens"] == counted["input_tokens"]


async def test_limits_are_cut_to_the_models_length_and_long_prompts_refused_unless_truncated() -> None:
    async with running_engine("vllm", max_total_tokens=100, speed=1000) as engine:
        reply = await exchange(engine.port, post("/v1/completions", {"prompt": "a b c", "max_tokens": 99}))
        long = {"prompt": "a " * 200, "max_tokens": 3}
        refused = await exchange(engine.port, post("/v1/completions", long | {"stream": True}))
        truncated = await exchange(engine.port, post("/v1/completions", long | {"truncate_prompt_tokens": 50}))
    assert json.loads(reply.chunks[0])["usage"]["total_tokens"] == 100
    assert refused.status == 400
    assert "at least 101 input tokens" in refused.chunks[0]
    assert json.loads(truncated.chunks[0])["usage"]["prompt_tokens"] == 50


async def test_the_gauges_say_who_runs_who_waits_and_what_is_held_in_whole_blocks() -> None:
    truth = WatchedTruth()
    async with running_engine("vllm", truth=truth, slots=2, kv_tokens=1600, max_total_tokens=500) as engine:
        connections = []
        for number in range(3):
            connections.append(await Connection.to(engine.port))
            await connections[-1].send(post("/v1/completions", ASK | LIMITS | {"stream": True}))
            await truth.until(lambda number=number: len(truth) == number + 1)  # type: ignore[misc]
        await truth.until(lambda: truth.requests[1].made_tokens > 0)
        text = (await exchange(engine.port, get("/metrics"), method="GET")).chunks[0]
        for connection in connections:
            await connection.close()
    values = {line.partition("{")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if "{" in line}
    assert (values["vllm:num_requests_running"], values["vllm:num_requests_waiting"]) == (2, 1)
    assert values["vllm:kv_cache_usage_perc"] == pytest.approx(2 / 99)
    assert 'kv_cache_size_tokens="1600",num_gpu_blocks="100"' in text


async def test_paths_are_decoded_and_head_is_not_get() -> None:
    async with running_engine("vllm") as engine:
        encoded = await exchange(engine.port, post("/v1/%63ompletions", {"prompt": "a", "max_tokens": 1}))
        head = b"HEAD /health HTTP/1.1\r\nhost: x\r\n\r\n"
        refused = await exchange(engine.port, head, method="HEAD")
    assert (encoded.status, refused.status, refused.header("allow")) == (200, 405, "GET")


async def test_a_body_that_is_no_text_has_an_error_of_its_own() -> None:
    async with running_engine("vllm") as engine:
        body = b'{"messages":[{"role":"user","content":"\xff"}]}'
        lines = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        reply = await exchange(engine.port, lines + b"content-length: %d\r\n\r\n" % len(body) + body)
    assert (reply.status, reply.chunks) == (400, ['{"detail":"There was an error parsing the body"}'])


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/embeddings", {"input": "a", "model": "nope"}, 404, "The model `nope` does not exist"),
        ("/v1/embeddings", {"input": "[[fail=1]]"}, 500, "simulated failure"),
        ("/v1/messages", ASK | {"max_tokens": 5, "messages": [{"role": "user", "content": "[[fail=1]]"}]}, 500, "type"),
        ("/v1/responses", {"input": "[[fail=1]]"}, 500, "EngineCore encountered an issue"),
        ("/inference/v1/abort_requests", {}, 400, "request_ids"),
        ("/detokenize", {}, 400, "tokens"),
        ("/v1/chat/completions", {"messages": "x" * 3_000_000}, 413, "too large"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("/") else "",
)
async def test_errors_are_answered_on_every_route(path: str, body: dict[str, Any], status: int, words: str) -> None:
    async with running_engine("vllm") as engine:
        reply = await exchange(engine.port, post(path, body))
        assert (engine.model.running, engine.model.kv_used_tokens) == (0, 0)
    assert reply.status == status
    assert words in reply.chunks[0]


async def test_of_several_outputs_that_fail_together_one_error_is_told() -> None:
    async with running_engine("vllm") as engine:
        reply = await exchange(engine.port, chat("[[fail=2]]", n=3, stream=True))
    assert sum('"error"' in chunk for chunk in reply.chunks) == 1
    assert reply.chunks[-1] == "data: [DONE]\n\n"


async def test_a_message_ends_with_its_turn_or_a_stop_sequence() -> None:
    async with running_engine("vllm", output_style="numbered") as engine:
        for content, reason, stop in (("[[eos=2]]", "end_turn", None), ("a", "stop_sequence", "word2")):
            body = {"messages": [{"role": "user", "content": content}], "max_tokens": 9, "stop_sequences": ["word2"]}
            plain = json.loads((await exchange(engine.port, post("/v1/messages", body))).chunks[0])
            streamed = data_of(await exchange(engine.port, post("/v1/messages", body | {"stream": True})))
            assert (plain["stop_reason"], plain.get("stop_sequence")) == (reason, stop)
            assert streamed[-2]["delta"] == {"stop_reason": reason, "stop_sequence": stop}


async def test_an_instruction_is_part_of_the_prompt() -> None:
    async with running_engine("vllm") as engine:
        bodies = ({"input": "a b"}, {"input": "a b", "instructions": "c d"})
        replies = [await exchange(engine.port, post("/v1/responses", b | {"max_output_tokens": 1})) for b in bodies]
        body = {"messages": [{"role": "user", "content": "a b"}], "system": [{"type": "text", "text": "c d"}]}
        counted = await exchange(engine.port, post("/v1/messages/count_tokens", body))
    short, long = (json.loads(reply.chunks[0])["usage"]["input_tokens"] for reply in replies)
    assert long > short
    assert json.loads(counted.chunks[0])["input_tokens"] == long
