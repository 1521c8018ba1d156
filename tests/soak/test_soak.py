"""Thousands of random request lives through a real proxy process: nothing leaks, nothing is lost, every charge is
what the engine really wrote. Set FAIRQUEUE_SOAK_SEED and FAIRQUEUE_SOAK_LIVES to replay a run."""

import asyncio
import os
import random
import signal
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from checks import GRACE_SECONDS, check_gap, check_life, check_nothing_left, check_totals, log_lines
from lives import Life, draw, live

from fairqueue_sim import RequestTruth, RunningEngine, running_engine
from proxy_stack import Stack, serving_proxy

AT_A_TIME = 52
LAST_LIVES = 40
LATE_LIVES = 5
POLICY = {
    "groups": [{"name": "first", "weight": 2}, {"name": "second"}],
    "tenants": [
        {"name": "alpha", "group": "first", "weight": 3},
        {"name": "beta", "group": "first"},
        {"name": "capped", "group": "second", "limits": {"maxInFlight": 2}},
        {"name": "narrow", "limits": {"maxQueued": 4}},
    ],
    "queue": {"maxRequests": 33, "maxBodyBytes": 20_000, "timeout": "900ms"},
    "backpressure": {"maxRequests": 12},
    "drain": {"timeout": "10s"},
}


async def test_four_hundred_random_lives_leave_nothing_behind_and_are_charged_what_they_got(tmp_path: Path) -> None:
    await soak(tmp_path, int(os.environ.get("FAIRQUEUE_SOAK_SEED", "1")), 400)


@pytest.mark.long
async def test_ten_thousand_random_lives_leave_nothing_behind(tmp_path: Path) -> None:
    seed = int(os.environ.get("FAIRQUEUE_SOAK_SEED", random.SystemRandom().randrange(1_000_000)))
    await soak(tmp_path, seed, int(os.environ.get("FAIRQUEUE_SOAK_LIVES", "10000")))


async def soak(folder: Path, seed: int, count: int) -> None:
    print(f"FAIRQUEUE_SOAK_SEED={seed} FAIRQUEUE_SOAK_LIVES={count}")
    source = random.Random(seed)
    lives = [draw(number, source) for number in range(count + LAST_LIVES + LATE_LIVES)]
    early, last, late = lives[:count], lives[count:-LATE_LIVES], lives[-LATE_LIVES:]
    # It is in the engine when the proxy is told to go, and for a while longer.
    last[0].fate, last[0].tenant = "normal", "beta"
    last[0].path, last[0].streamed = "/generate_stream", True
    last[0].body = {"inputs": "stay", "parameters": {"max_new_tokens": 400}}
    for life in late:
        life.fate, life.tenant = "normal", "alpha"
        life.path, life.body, life.streamed = "/generate", {"inputs": "too late"}, False
    log = folder / "log"
    async with (
        running_engine("tgi", profile="tiny", speed=0.4, slots=12, seed=seed) as engine,
        serving_proxy(folder, engine.port, log, **POLICY) as stack,
    ):
        watch = asyncio.create_task(_watch_gap(stack))
        await _live_all(early, stack)
        metrics = await _until_quiet(stack, engine)
        watch.cancel()
        assert isinstance((await asyncio.gather(watch, return_exceptions=True))[0], asyncio.CancelledError)
        check_totals(log_lines(log), metrics)
        told_at = await _end(stack, last, late)
        truths: defaultdict[str, list[RequestTruth]] = defaultdict(list)
        for truth in engine.truth.requests:
            truths[truth.request_id or ""].append(truth)
    lines = log_lines(log)
    # Who comes while the listener closes may find nobody; all others have an outcome.
    in_time = told_at - GRACE_SECONDS
    due = [life for life in lives if life.sent_at is not None and (life.status or life.sent_at < in_time)]
    missing = [life for life in due if life.request_id not in lines]
    assert not missing, f"no outcome: {missing[0]}"
    assert len(due) > count
    for life in lives:
        if life.request_id in lines:
            check_life(life, lines[life.request_id], truths[life.request_id])
    outcomes = Counter(line["outcome"] for line in lines.values())
    print(dict(outcomes))
    assert {"completed", "client_gone", "engine_error", "queue_full", "tenant_queue_full"} <= set(outcomes)
    assert {lines[life.request_id]["outcome"] for life in late} == {"draining"}


async def _end(stack: Stack, last: list[Life], late: list[Life]) -> float:
    """Tells the proxy to go while it is busy, and has some come on old connections when it has heard. Returns when it
    was told."""
    process, barrier = stack.process, asyncio.Barrier(len(late) + 1)
    assert process is not None
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(30):
        tasks.create_task(_live_all(late, stack, barrier=barrier))
        await barrier.wait()
        tasks.create_task(_live_all(last[:1], stack))
        while not (await stack.queue())["in_flight"]:
            await asyncio.sleep(0.01)
        tasks.create_task(_live_all(last[1:], stack))
        while not (await stack.queue())["queued"]:
            await asyncio.sleep(0.01)
        told_at = time.monotonic()
        process.send_signal(signal.SIGTERM)
        while "draining" not in (await stack.get(stack.admin, "/-/ready"))[1]:
            await asyncio.sleep(0.01)
        await barrier.wait()
    assert await asyncio.wait_for(process.wait(), 20) == 0
    # The log comes through a pipe.
    await asyncio.sleep(0.1)
    return told_at


async def _live_all(lives: list[Life], stack: Stack, *, barrier: asyncio.Barrier | None = None) -> None:
    places = asyncio.Semaphore(AT_A_TIME)

    async def one(life: Life) -> None:
        async with places:
            try:
                async with asyncio.timeout(30):
                    await live(life, stack.data.host, stack.data.port, barrier=barrier)
            except (ConnectionError, asyncio.IncompleteReadError):
                # The proxy or the engine cut it; whether rightly is judged by its outcome.
                return

    await asyncio.gather(*map(one, lives))


async def _until_quiet(stack: Stack, engine: RunningEngine) -> str:
    """Waits for the last hang-ups to be noticed, then checks that nothing is left."""
    for _ in range(100):
        queue = await stack.queue()
        if not queue["queued"] and not queue["in_flight"]:
            break
        await asyncio.sleep(0.05)
    metrics = await stack.metrics()
    check_nothing_left(metrics, await stack.queue())
    # The log comes through a pipe.
    await asyncio.sleep(0.1)
    return metrics


async def _watch_gap(stack: Stack) -> None:
    while True:
        check_gap(await stack.metrics())
        await asyncio.sleep(0.1)
