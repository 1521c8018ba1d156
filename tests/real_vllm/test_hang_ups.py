"""Clients that leave in the middle of a stream: charged is the input and what came to the proxy until then."""

import asyncio

import pytest

from proxy.raw_client import RawClient, request
from real_vllm.bench import LOOK_SECONDS, PATIENCE_SECONDS, Bench
from real_vllm.cases import CHAT, HUNG_UP, HUNG_UP_TOKENS, Case
from real_vllm.expected import charge_of_part
from real_vllm.recording import ASKED, record
from real_vllm.tap import Tapped

pytestmark = pytest.mark.asyncio(loop_scope="session")

# The first event of a chat is only a role; each of the first of a response or a message has no text either.
EVENTS = (1, 2, 6, 17)


@pytest.mark.parametrize("events", EVENTS)
@pytest.mark.parametrize("case", HUNG_UP, ids=lambda case: case.name)
async def test_the_charge_is_what_the_events_told_that_came(
    bench: Bench, case: Case, events: int, recording: bool
) -> None:
    bench.tap.hold_after = events
    name = bench.name()
    try:
        async with RawClient(bench.stack.data) as client:
            client.send(request(case.path, case.body, tenant="alice", headers={"x-request-id": name}))
            for _ in range(events):
                await client.until(b"\n\n")
        line = await bench.line(name)
        tapped = bench.tap.posted()[-1]
        await _closed(tapped)
    finally:
        bench.tap.hold_after = None
    prompt, output = charge_of_part(case, [chunk for _, chunk in tapped.chunks])
    assert (line["outcome"], len(tapped.chunks), line["output_tokens"]) == ("client_gone", events, output)
    # What the events did not tell is estimated.
    assert line["input_tokens"] == prompt if prompt is not None else line["input_tokens"] > 0
    # It stops at once: nothing runs any more, and few of the tokens were made.
    await bench.idle_counts()
    if recording and events == EVENTS[-1]:
        record(bench.kind, case, [(ASKED, tapped)], (line["input_tokens"], line["output_tokens"]))


@pytest.mark.parametrize("case", HUNG_UP, ids=lambda case: case.name)
async def test_with_nothing_held_up_no_more_is_charged_than_the_engine_made(bench: Bench, case: Case) -> None:
    before = await bench.idle_counts()
    name = bench.name()
    async with RawClient(bench.stack.data) as client:
        client.send(request(case.path, case.body, tenant="alice", headers={"x-request-id": name}))
        for _ in range(20):
            await client.until(b"\n\n")
    line = await bench.line(name)
    made = (await bench.idle_counts())[1] - before[1]
    assert line["outcome"] == "client_gone"
    assert 5 <= line["output_tokens"] <= made < HUNG_UP_TOKENS * case.copies


@pytest.mark.parametrize("leave", ["close", "half_close", "reset"])
async def test_a_plain_request_whose_client_leaves_stops_in_the_engine(bench: Bench, leave: str) -> None:
    before = await bench.idle_counts()
    name = bench.name()
    async with RawClient(bench.stack.data) as client:
        body = HUNG_UP[0].body | {"stream": False}
        client.send(request(CHAT, body, tenant="alice", headers={"x-request-id": name}))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (await bench.engines_own("vllm:num_requests_running"))["vllm:num_requests_running"]:
                await asyncio.sleep(LOOK_SECONDS)
        getattr(client, leave)()
        line = await bench.line(name)
    assert line["outcome"] == "client_gone"
    assert (await bench.idle_counts())[1] - before[1] < HUNG_UP_TOKENS


async def _closed(tapped: Tapped) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while tapped.closed_at is None:
            await asyncio.sleep(LOOK_SECONDS)
