"""The open loop: what goes out when, whatever else is running, and how late."""

import asyncio
import random
from dataclasses import dataclass

import pytest

from cli.sse_server import Exchange, Serve
from fairqueue_cli.load_open import OpenPlan, OpenResult, run_open
from fairqueue_cli.load_prompt import unseen_prompt
from fairqueue_cli.load_reply import Outcome
from fairqueue_cli.load_sender import TargetUnreachable
from fairqueue_cli.load_spec import Api, LoadPlan
from fairqueue_sim.lab.trace import Arrival
from fairqueue_sim.tokenizer import count_tokens


@dataclass(slots=True)
class Clock:
    """Moves only when somebody sleeps, and then `oversleeps` by as much."""

    now: float = 100.0
    oversleeps: float = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        # Who can go on now goes first.
        for _ in range(5 if seconds else 1):
            await asyncio.sleep(0)
        self.now += seconds + (self.oversleeps if seconds else 0.0)


async def run(url: str, arrivals: list[Arrival], clock: Clock, *, speed: float = 1.0, **keys: str) -> OpenResult:
    plan = OpenPlan(LoadPlan(url, "openai", ()), arrivals, speed, keys)
    async with asyncio.timeout(10):
        return await run_open(plan, rng=random.Random(7), clock=clock, sleep=clock.sleep)


def due(result: OpenResult) -> list[float]:
    return [one.reply.sent_at - result.started_at for one in result.sent]


async def test_each_arrival_goes_out_at_its_time_over_the_speed(serve: Serve) -> None:
    server = await serve(lambda exchange: exchange.chat("x", usage=(9, 1)))
    arrivals = [Arrival(seconds, "a", 20, 1) for seconds in (0.0, 3.0, 3.0, 8.0)]
    assert due(await run(server.url, arrivals, Clock())) == [0.0, 3.0, 3.0, 8.0]
    assert due(await run(server.url, arrivals, Clock(), speed=4.0)) == [0.0, 0.75, 0.75, 2.0]


async def test_nobody_waits_for_the_replies_of_others(serve: Serve) -> None:
    async def answer(exchange: Exchange) -> None:
        if exchange.body["max_tokens"] == 3:
            last_is_here.set()
        await last_is_here.wait()
        await exchange.chat("x")

    last_is_here = asyncio.Event()
    arrivals = [Arrival(float(seconds), "a", 20, seconds) for seconds in (1, 2, 3)]
    result = await run((await serve(answer)).url, arrivals, Clock())
    assert result.outcomes == {Outcome.COMPLETED: 3}


async def test_who_oversleeps_is_late_and_it_is_kept(serve: Serve) -> None:
    server = await serve(lambda exchange: exchange.chat("x"))
    arrivals = [Arrival(0.0, "a", 20, 1), Arrival(2.0, "a", 20, 1)]
    result = await run(server.url, arrivals, Clock(oversleeps=0.5))
    assert [one.late_seconds for one in result.sent] == [0.0, 0.5]


async def test_a_request_has_the_lengths_the_user_and_the_key_of_its_arrival(serve: Serve) -> None:
    server = await serve(lambda exchange: exchange.chat("x"))
    arrivals = [Arrival(0.0, "a", 40, 5, max_tokens=900, user="ann"), Arrival(1.0, "b", 20, 7)]
    result = await run(server.url, arrivals, Clock(), a="sesame")
    first, second = (exchange.body for exchange in server.received)
    assert (first["max_tokens"], first["user"]) == (5, "ann")
    assert (second["max_tokens"], "user" in second) == (7, False)
    assert len(first["messages"][0]["content"].split()) == 40 - 15
    assert [exchange.headers.get("authorization") for exchange in server.received] == ["Bearer sesame", None]
    assert "sesame" not in repr(result)


async def test_a_target_that_nobody_listens_on_ends_the_run_at_once(unused_tcp_port: int) -> None:
    target = f"http://127.0.0.1:{unused_tcp_port}"
    plan = OpenPlan(LoadPlan(target, "openai", ()), [Arrival(0.0, "a", 1, 1), Arrival(900.0, "a", 1, 1)])
    with pytest.raises(TargetUnreachable, match=f"nothing answers at {target}: connection refused"):
        async with asyncio.timeout(10):
            await run_open(plan, rng=random.Random(1))


async def test_the_observer_hears_each_second_how_far_it_is(serve: Serve) -> None:
    seen = []

    def observe(result: OpenResult) -> None:
        seen.append((result.workload_seconds, len(result.sent), result.running))
        raise LookupError("seen enough")

    server = await serve(lambda exchange: exchange.begin())
    plan = OpenPlan(LoadPlan(server.url, "openai", ()), [Arrival(0.0, "a", 1, 1)], speed=5.0)
    clock = Clock()
    with pytest.raises(LookupError, match="seen enough"):
        await run_open(plan, rng=random.Random(1), clock=clock, sleep=clock.sleep, on_second=observe)
    assert seen == [(5.0, 1, 1)]


@pytest.mark.parametrize(("api", "template"), [("tgi", 1), ("openai", 15)])
def test_a_prompt_has_as_many_tokens_as_it_should(api: Api, template: int) -> None:
    rng = random.Random(3)
    for tokens in (template + 1, 30, 31, 700):
        assert template + count_tokens(unseen_prompt(rng, api, tokens)) == tokens
    assert count_tokens(unseen_prompt(rng, api, 1)) == 1


def test_prompts_have_nothing_in_common_from_the_start() -> None:
    rng = random.Random(3)
    openings = {unseen_prompt(rng, "tgi", 200).split()[0] for _ in range(50)}
    assert len(openings) > 20
    assert len({unseen_prompt(rng, "tgi", 9) for _ in range(500)}) == 500
