"""The truth log: every request, every token made, every token sent, and the end."""

import io
import json
import time

import pytest

from fairqueue_sim import Outcome, TruthLog, running_engine
from sim.replay import Connection, exchange, post
from sim.watched import WatchedTruth


def lines_of(file: io.BytesIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.getvalue().splitlines()]


async def test_a_request_is_found_by_the_id_that_it_came_with() -> None:
    async with running_engine("tgi") as engine:
        body = {"inputs": "What is deep learning?", "parameters": {"max_new_tokens": 3}}
        await exchange(engine.port, post("/generate_stream", body, "X-Request-Id: seven"))
        found = engine.truth.find("seven")
        with pytest.raises(LookupError, match="eight"):
            engine.truth.find("eight")
    assert (found.number, found.path, found.outcome) == (1, "/generate_stream", Outcome.DONE)
    assert (found.prompt_tokens, found.made_tokens, found.sent_tokens) == (6, 3, 3)


async def test_times_are_in_the_order_of_events() -> None:
    async with running_engine("tgi") as engine:
        await exchange(engine.port, post("/generate_stream", {"inputs": "a", "parameters": {"max_new_tokens": 4}}))
        (found,) = engine.truth.requests
    assert found.prefilled_at is not None
    assert found.ended_at is not None
    times = [
        found.arrived_at,
        found.prefilled_at,
        *(t for pair in zip(found.made, found.sent, strict=True) for t in pair),
    ]
    assert [*times, found.ended_at] == sorted([*times, found.ended_at])


async def test_tokens_of_a_plain_reply_are_sent_when_it_is() -> None:
    async with running_engine("tgi") as engine:
        await exchange(engine.port, post("/generate", {"inputs": "a", "parameters": {"max_new_tokens": 4}}))
        (found,) = engine.truth.requests
    assert len(set(found.sent)) == 1
    assert found.sent[0] >= found.made[-1] > found.made[0]


async def test_several_prompts_add_up_in_one_request() -> None:
    async with running_engine("tgi") as engine:
        body = {"prompt": ["What is deep learning?", "[[eos=2]]"], "max_tokens": 4, "stream": True}
        await exchange(engine.port, post("/v1/completions", body))
        (found,) = engine.truth.requests
    assert (found.prompt_tokens, found.made_tokens, found.sent_tokens) == (6 + 8, 4 + 2, 4 + 2)


async def test_the_file_has_one_line_per_event_and_ends_with_the_totals() -> None:
    file = io.BytesIO()
    async with running_engine("tgi", truth=TruthLog(file=file, keep=False)) as engine:
        body = {"inputs": "a", "parameters": {"max_new_tokens": 2}}
        await exchange(engine.port, post("/generate_stream", body, "x-request-id: r1"))
        await exchange(engine.port, post("/generate", {"inputs": ""}))
        assert engine.truth.requests == []
    lines = lines_of(file)
    first = [line["event"] for line in lines if line["request"] == 1]
    assert first == ["arrived", "prefilled", "made", "sent", "made", "sent", "ended"]
    assert [line["token"] for line in lines if line["event"] == "sent"] == [1, 2]
    assert lines[0]["request_id"] == "r1"
    ended = [line for line in lines if line["event"] == "ended"]
    assert [(line["outcome"], line["prompt_tokens"], line["made_tokens"], line["sent_tokens"]) for line in ended] == [
        ("done", 2, 2, 2),
        ("refused", 0, 0, 0),
    ]


async def test_the_file_is_written_while_a_stream_runs() -> None:
    file = io.BytesIO()
    async with running_engine("tgi", truth=TruthLog(file=file)) as engine:
        connection = await Connection.to(engine.port)
        await connection.send(post("/generate_stream", {"inputs": "[[slow=20]]", "parameters": {"max_new_tokens": 9}}))
        await connection.head()
        for _ in range(3):
            await connection.chunk()
        events = [line["event"] for line in lines_of(file)]
        await connection.close()
    assert events.count("made") >= 3
    assert events.count("sent") >= 2


async def test_tokens_made_for_a_client_that_left_are_in_the_totals() -> None:
    truth = WatchedTruth()
    async with running_engine("tgi", truth=truth) as engine:
        connection = await Connection.to(engine.port)
        await connection.send(post("/generate_stream", {"inputs": "[[slow=100]]"}))
        await connection.chunk_after_head()
        left_at = time.monotonic()
        connection.writer.close()
        left = await truth.until_ended()
    assert left.outcome is Outcome.CANCELLED
    assert left.made[-1] > left_at > left.sent[-1]
    assert left.made_tokens == left.sent_tokens + 1
    assert left.ended_at is not None
    assert left.ended_at >= left.made[-1]
