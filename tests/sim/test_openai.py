"""The plain OpenAI-compatible engine."""

import json
from typing import Any

import pytest

from fairqueue_sim import Outcome, running_engine
from sim.replay import Connection, Reply, exchange, get, post
from sim.watched import WatchedTruth

QUESTION = [{"role": "user", "content": "What is deep learning?"}]
NUMBERED = {"output_style": "numbered", "model_id": "m"}


def chat(content: str, **more: Any) -> bytes:
    return post("/v1/chat/completions", {"messages": [{"role": "user", "content": content}], **more})


def events(reply: Reply) -> list[dict[str, Any]]:
    """The JSON of the events; the last one must be [DONE]."""
    assert all(chunk.startswith("data: ") and chunk.endswith("\n\n") for chunk in reply.chunks)
    assert reply.chunks[-1] == "data: [DONE]\n\n"
    return [json.loads(chunk[6:]) for chunk in reply.chunks[:-1]]


async def test_a_chat_stream_begins_with_a_role_and_ends_with_a_reason() -> None:
    async with running_engine("openai", **NUMBERED) as engine:
        reply = await exchange(engine.port, chat("a", max_tokens=3, stream=True))
    found = events(reply)
    assert reply.header("content-type") == "text/event-stream; charset=utf-8"
    assert [event["choices"][0]["delta"] for event in found] == [
        {"role": "assistant", "content": ""},
        *({"content": f" word{number}"} for number in (1, 2, 3)),
        {},
    ]
    assert [event["choices"][0]["finish_reason"] for event in found] == [None] * 4 + ["length"]
    assert all("usage" not in event for event in found)
    assert {event["object"] for event in found} == {"chat.completion.chunk"}
    assert {event["model"] for event in found} == {"m"}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_usage_is_only_in_the_last_chunk_and_only_when_asked_for(path: str) -> None:
    body = {"messages": QUESTION, "prompt": "What is deep learning?", "max_tokens": 2, "stream": True}
    async with running_engine("openai") as engine:
        reply = await exchange(engine.port, post(path, body | {"stream_options": {"include_usage": True}}))
    *others, last = events(reply)
    prompt_tokens = 20 if "chat" in path else 6
    assert [event["usage"] for event in others] == [None] * len(others)
    assert last["choices"] == []
    expected = {"prompt_tokens": prompt_tokens, "completion_tokens": 2, "total_tokens": prompt_tokens + 2}
    assert last["usage"] == expected


async def test_the_end_token_counts_but_has_no_chunk_of_its_own() -> None:
    async with running_engine("openai", **NUMBERED) as engine:
        options = {"stream": True, "stream_options": {"include_usage": True}}
        reply = await exchange(engine.port, post("/v1/completions", {"prompt": "[[eos=3]]", **options}))
        (truth,) = engine.truth.requests
    found = events(reply)
    assert [event["choices"][0]["text"] for event in found[:-1]] == [" word1", " word2", ""]
    assert found[-2]["choices"][0]["finish_reason"] == "stop"
    assert found[-1]["usage"]["completion_tokens"] == 3
    assert (truth.made_tokens, truth.sent_tokens) == (3, 3)


async def test_merged_tokens_share_chunks() -> None:
    async with running_engine("openai", **NUMBERED) as engine:
        body = {"prompt": "[[merge=4]]", "max_tokens": 9, "stream": True}
        reply = await exchange(engine.port, post("/v1/completions", body))
        (truth,) = engine.truth.requests
    texts = [event["choices"][0]["text"] for event in events(reply)]
    assert texts == [" word1 word2 word3 word4", " word5 word6 word7 word8", " word9", ""]
    assert truth.sent_tokens == 9


@pytest.mark.parametrize("tokens", [4, 5])
async def test_chunks_without_text_stand_for_tokens_and_no_text_is_lost(tokens: int) -> None:
    async with running_engine("openai", **NUMBERED) as engine:
        reply = await exchange(engine.port, chat("[[empty=1]]", max_tokens=tokens, stream=True))
        (truth,) = engine.truth.requests
    texts = [event["choices"][0]["delta"].get("content") for event in events(reply)[1:]]
    assert texts[:4] == ["", " word1 word2", "", " word3 word4"]
    assert "".join(text or "" for text in texts) == "".join(f" word{n}" for n in range(1, tokens + 1))
    assert truth.sent_tokens == tokens


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_a_plain_reply_has_text_reason_and_usage(path: str) -> None:
    body = {"messages": QUESTION, "prompt": "What is deep learning?", "max_tokens": 2}
    async with running_engine("openai", **NUMBERED) as engine:
        reply = await exchange(engine.port, post(path, body))
    found = json.loads(reply.chunks[0])
    (choice,) = found["choices"]
    assert (choice.get("text") or choice["message"]["content"], choice["finish_reason"]) == (" word1 word2", "length")
    assert found["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_prompts_and_copies_are_choices_by_index(stream: bool) -> None:
    body = {"prompt": ["a", "[[eos=1]]"], "n": 2, "max_tokens": 2, "stream": stream}
    async with running_engine("openai", **NUMBERED) as engine:
        reply = await exchange(engine.port, post("/v1/completions", body))
        (truth,) = engine.truth.requests
    found = events(reply) if stream else [json.loads(reply.chunks[0])]
    reasons = {c["index"]: c["finish_reason"] for event in found for c in event["choices"] if c["finish_reason"]}
    assert reasons == {0: "length", 1: "length", 2: "stop", 3: "stop"}
    assert truth.made_tokens == 6


async def test_prompts_may_be_token_ids() -> None:
    async with running_engine("openai") as engine:
        for prompt, tokens in (([5, 6, 7], 3), ([[5, 6], [7]], 3)):
            reply = await exchange(engine.port, post("/v1/completions", {"prompt": prompt, "max_tokens": 1}))
            assert json.loads(reply.chunks[0])["usage"]["prompt_tokens"] == tokens


async def test_an_output_ends_exactly_where_it_should_however_long() -> None:
    async with running_engine("openai", speed=1000) as engine:
        reply = await exchange(engine.port, post("/v1/completions", {"prompt": "a", "max_tokens": 1500}))
    assert json.loads(reply.chunks[0])["usage"]["completion_tokens"] == 1500


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        pytest.param(post("/v1/completions", "{"), 400, "EOF while parsing", id="no JSON"),
        pytest.param(chat("a", max_tokens=0), 400, "at least 1", id="no tokens"),
        pytest.param(chat("a", max_tokens=5000), 400, "maximum context length is 4096", id="too many tokens"),
        pytest.param(chat("a", n=0), 400, "n: invalid value", id="no copies"),
        pytest.param(post("/nope", {}), 404, "Not Found", id="unknown path"),
        pytest.param(chat("a" * 3_000_000), 413, "too large", id="large body"),
        pytest.param(chat("[[fail=1]]"), 500, "simulated failure", id="engine failure"),
    ],
)
async def test_errors_have_openais_shape(data: bytes, status: int, words: str) -> None:
    async with running_engine("openai") as engine:
        reply = await exchange(engine.port, data)
    error = json.loads(reply.chunks[0])["error"]
    assert reply.status == status
    assert words in error["message"]
    assert set(error) == {"message", "type", "param", "code"}


async def test_a_failing_stream_ends_with_an_error_and_done() -> None:
    async with running_engine("openai") as engine:
        options = {"stream_options": {"include_usage": True}}
        reply = await exchange(engine.port, chat("[[fail=2]]", stream=True, **options))
    assert "error" in events(reply)[-1]


@pytest.mark.parametrize("stream", [False, True])
async def test_requests_beyond_the_limit_are_refused_with_a_real_429(stream: bool) -> None:
    async with running_engine("openai", max_concurrent_requests=1) as engine:
        busy = await Connection.to(engine.port)
        await busy.send(chat("[[slow=50]]", stream=True))
        await busy.head()
        refused = await exchange(engine.port, chat("a", stream=stream))
        await busy.close()
    assert (refused.status, json.loads(refused.chunks[0])["error"]["type"]) == (429, "rate_limit_error")


async def test_a_client_that_leaves_is_noticed() -> None:
    truth = WatchedTruth()
    async with running_engine("openai", truth=truth, max_concurrent_requests=1) as engine:
        connection = await Connection.to(engine.port)
        await connection.send(chat("[[slow=20]]", stream=True))
        await connection.chunk_after_head()
        connection.writer.close()
        assert (await truth.until_ended()).outcome is Outcome.CANCELLED
        assert (await exchange(engine.port, chat("a", max_tokens=1))).status == 200


@pytest.mark.parametrize(("path", "status"), [("/health", 200), ("/v1/models", 200), ("/metrics", 404)])
async def test_the_routes_are_those_of_a_plain_engine(path: str, status: int) -> None:
    async with running_engine("openai") as engine:
        assert (await exchange(engine.port, get(path), method="GET")).status == status
        if status == 200:
            assert (await exchange(engine.port, post(path, {}))).status == 405
