"""Closed-loop load against a server whose every byte is decided here: over real sockets, on a clock set by hand."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import pytest

from cli.sse_server import Exchange, Serve, chat_event
from fairqueue_cli.load_reply import Outcome, Reply
from fairqueue_cli.load_run import LoadResult, run_load
from fairqueue_cli.load_sender import TargetUnreachable
from fairqueue_cli.load_spec import LoadPlan, Stop, TenantSpec


@dataclass(slots=True)
class Clock:
    """Stands still unless a test moves it; `sleep` notes what was asked for and returns at once."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


def plan(url: str, *tenants: TenantSpec, seed: int = 0) -> LoadPlan:
    return LoadPlan(url, "openai", tenants or (TenantSpec("a"),), seed)


async def run(plan: LoadPlan, stop: Stop, clock: Clock | None = None) -> LoadResult:
    clock = clock or Clock()
    async with asyncio.timeout(10):
        return await run_load(plan, stop, clock=clock, sleep=clock.sleep)


def only_reply(result: LoadResult) -> Reply:
    (samples,) = result.tenants.values()
    (reply,) = samples.replies
    return reply


async def test_the_first_token_is_timed_from_the_sending_of_the_request(serve: Serve) -> None:
    clock = Clock(now=100.0)

    async def answer(exchange: Exchange) -> None:
        clock.now = 102.5
        await exchange.chat("Hello", " there", usage=(9, 7))

    reply = only_reply(await run(plan((await serve(answer)).url), Stop(requests=1), clock))
    assert (reply.sent_at, reply.ttft_seconds, reply.ended_at) == (100.0, 2.5, 102.5)
    assert (reply.prompt_tokens, reply.output_tokens, reply.outcome) == (9, 7, Outcome.COMPLETED)


async def test_a_request_asks_for_a_stream_with_its_usage_and_carries_the_key(serve: Serve) -> None:
    server = await serve(lambda exchange: exchange.chat("x"))
    await run(plan(server.url, TenantSpec("a", max_tokens=(5, 5), prompt_words=12, key="sesame")), Stop(requests=1))
    (exchange,) = server.received
    assert exchange.path == "/v1/chat/completions"
    assert exchange.headers["authorization"] == "Bearer sesame"
    assert exchange.body["stream"] is True
    assert exchange.body["stream_options"] == {"include_usage": True}
    assert exchange.body["max_tokens"] == 5
    assert len(exchange.body["messages"][0]["content"].split()) == 12


async def test_tgi_is_asked_for_details_and_its_tokens_are_counted(serve: Serve) -> None:
    async def answer(exchange: Exchange) -> None:
        last = {"generated_tokens": 2, "input_length": 4}
        await exchange.begin()
        await exchange.events({"token": {"id": 1}, "generated_text": None, "details": None})
        await exchange.events({"token": {"id": 2}, "generated_text": "ab", "details": last})
        await exchange.end()

    server = await serve(answer)
    reply = only_reply(await run(LoadPlan(server.url, "tgi", (TenantSpec("a"),)), Stop(requests=1)))
    assert (reply.outcome, reply.output_tokens, reply.prompt_tokens) == (Outcome.COMPLETED, 2, 4)
    assert server.received[0].path == "/generate_stream"
    assert server.received[0].body["parameters"] == {"max_new_tokens": 64, "details": True}


async def test_one_seed_always_sends_the_same_and_another_seed_something_else(serve: Serve) -> None:
    server = await serve(lambda exchange: exchange.chat("x"))
    tenant = TenantSpec("a", max_tokens=(1, 1000))
    for seed in (1, 1, 2):
        await run(plan(server.url, tenant, seed=seed), Stop(requests=3))
    first, second, other = (
        [exchange.body for exchange in server.received[at : at + 3]] for at in range(0, len(server.received), 3)
    )
    assert first == second
    assert first != other
    assert len({body["max_tokens"] for body in first}) > 1


async def test_each_worker_sends_one_request_after_another_and_no_more_than_asked(serve: Serve) -> None:
    running = {"now": 0, "most": 0}

    async def answer(exchange: Exchange) -> None:
        running["now"] += 1
        running["most"] = max(running["most"], running["now"])
        await exchange.begin()
        await exchange.events(chat_event("x"))
        running["now"] -= 1
        await exchange.events("[DONE]")
        await exchange.end()

    server = await serve(answer)
    result = await run(plan(server.url, TenantSpec("a", workers=3)), Stop(requests=20))
    assert len(server.received) == 20
    assert result.tenants["a"].outcomes == {Outcome.COMPLETED: 20}
    assert running["most"] <= 3
    assert not result.tenants["a"].running


async def test_a_user_thinks_between_two_replies(serve: Serve) -> None:
    clock = Clock()
    server = await serve(lambda exchange: exchange.chat("x"))
    await run(plan(server.url, TenantSpec("a", think_seconds=7.0)), Stop(requests=2), clock)
    assert clock.slept == [7.0, 7.0]


@pytest.mark.parametrize(
    ("headers", "pause_seconds"),
    [((), 1.0), (("Retry-After: 3",), 3.0), (("Retry-After: 0",), 0.1), (("Retry-After: 9999",), 120.0)],
)
async def test_a_refused_client_waits_as_it_is_told(
    headers: tuple[str, ...], pause_seconds: float, serve: Serve
) -> None:
    clock = Clock()
    server = await serve(lambda exchange: exchange.refuse(429, *headers))
    reply = only_reply(await run(plan(server.url), Stop(requests=1), clock))
    assert (reply.outcome, reply.detail, reply.first_token_at) == (Outcome.REFUSED, "429", None)
    assert clock.slept == [pause_seconds]


async def test_an_engines_own_breakdown_is_a_failure_and_no_refusal(serve: Serve) -> None:
    server = await serve(lambda exchange: exchange.refuse(502))
    reply = only_reply(await run(plan(server.url), Stop(requests=1)))
    assert (reply.outcome, reply.detail) == (Outcome.FAILED, "502")


async def test_a_hang_up_in_mid_stream_keeps_the_tokens_that_came(serve: Serve) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.events(chat_event("a"), chat_event("b"))
        await exchange.hang_up()

    reply = only_reply(await run(plan((await serve(answer)).url), Stop(requests=1)))
    assert (reply.outcome, reply.detail, reply.output_tokens) == (Outcome.FAILED, "stream broke off", 2)


async def test_a_hang_up_before_the_reply_is_a_lost_connection(serve: Serve) -> None:
    server = await serve(lambda exchange: exchange.hang_up())
    reply = only_reply(await run(plan(server.url), Stop(requests=1)))
    assert (reply.outcome, reply.detail) == (Outcome.FAILED, "connection lost")
    assert len(server.received) == 1


async def test_a_kept_connection_that_the_server_drops_costs_no_request(serve: Serve) -> None:
    async def answer(exchange: Exchange) -> None:
        if (number := len(server.received)) % 2:
            await exchange.chat("x")
        elif number not in retried:
            retried.append(number)
            await exchange.hang_up()

    retried: list[int] = []
    server = await serve(answer)
    result = await run(plan(server.url), Stop(requests=3))
    assert retried == [2, 4]
    assert result.tenants["a"].outcomes == {Outcome.COMPLETED: 3}


async def test_a_target_that_nobody_listens_on_ends_the_run_with_its_name(unused_tcp_port: int) -> None:
    target = f"http://127.0.0.1:{unused_tcp_port}"
    with pytest.raises(TargetUnreachable, match=f"nothing answers at {target}: connection refused"):
        await run(plan(target), Stop())


async def test_a_server_that_stops_listening_later_fails_requests_and_not_the_run(serve: Serve) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.chat("x")
        await exchange.hang_up()
        server.stop_listening()

    server = await serve(answer)
    result = await run(plan(server.url), Stop(requests=2))
    assert [reply.detail for reply in result.tenants["a"].replies] == ["", "connection refused"]


async def test_the_run_ends_when_the_named_tenant_has_its_replies_and_cuts_the_rest(serve: Serve) -> None:
    async def answer(exchange: Exchange) -> None:
        if exchange.headers.get("authorization") == "Bearer slow":
            await exchange.begin()
            await exchange.events(chat_event("a"))
            slow_is_running.set()
        else:
            await slow_is_running.wait()
            await exchange.chat("x")

    slow_is_running = asyncio.Event()
    tenants = TenantSpec("slow", key="slow"), TenantSpec("fast")
    result = await run(plan((await serve(answer)).url, *tenants), Stop(tenant="fast", replies=3))
    assert result.tenants["fast"].outcomes == {Outcome.COMPLETED: 3}
    assert result.tenants["slow"].outcomes == {Outcome.UNFINISHED: 1}


async def test_the_measurement_begins_when_every_worker_has_its_first_token(serve: Serve) -> None:
    async def answer(exchange: Exchange) -> None:
        clock.now += 1.0
        if exchange.headers.get("authorization") == "Bearer fast":
            seen["fast"] += 1
            if seen["fast"] == 4:
                fourth_came.set()
        else:
            seen["slow"] += 1
            if seen["slow"] == 2:
                await fourth_came.wait()
        await exchange.chat("x")

    clock = Clock()
    seen = Counter[str]()
    fourth_came = asyncio.Event()
    tenants = TenantSpec("slow", workers=2), TenantSpec("fast", key="fast")
    stop = Stop(tenant="fast", replies=2, warm_up=True)
    result = await run(plan((await serve(answer)).url, *tenants), stop, clock)
    assert result.measured_from is not None
    replies = result.tenants["fast"].replies
    before = [reply for reply in replies if reply.sent_at < result.measured_from]
    measured = [reply for reply in replies if reply.sent_at >= result.measured_from]
    assert len(before) >= 3
    assert sum(reply.outcome is Outcome.COMPLETED for reply in measured) == 2


async def test_a_run_lasts_as_long_as_it_is_told(serve: Serve) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.begin()

    clock = Clock()
    result = await run(plan((await serve(answer)).url), Stop(duration_seconds=30.0), clock)
    assert clock.slept == [30.0]
    assert only_reply(result).outcome is Outcome.UNFINISHED


async def test_an_interrupt_ends_the_run_with_what_there_is(serve: Serve) -> None:
    async def answer(exchange: Exchange) -> None:
        if len(server.received) == 3:
            interrupt.set()
        else:
            await exchange.chat("x")

    interrupt = asyncio.Event()
    server = await serve(answer)
    async with asyncio.timeout(10):
        result = await run_load(plan(server.url), Stop(), interrupt=interrupt)
    assert result.interrupted
    assert result.tenants["a"].outcomes == {Outcome.COMPLETED: 2, Outcome.UNFINISHED: 1}


async def test_what_the_observer_raises_ends_the_run(serve: Serve) -> None:
    def observe(result: LoadResult) -> None:
        raise LookupError("seen enough")

    async def answer(exchange: Exchange) -> None:
        await exchange.begin()

    server = await serve(answer)
    with pytest.raises(LookupError, match="seen enough"):
        await run_load(plan(server.url), Stop(), sleep=Clock().sleep, on_second=observe)
