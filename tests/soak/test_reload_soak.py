"""Another policy every tenth of a second under many streams: none is dropped or lost, each is charged what it got, and
nobody is refused but whose key was taken away. Set FAIRQUEUE_SOAK_SEED to replay a run."""

import asyncio
import os
import random
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from checks import check_gap, check_life, check_nothing_left, log_lines
from lives import Life, live
from rounds import NAMES, Rounds

from fairqueue_sim import RequestTruth, RunningEngine, running_engine
from proxy.samples import Increases, sample
from proxy_stack import Stack, serving

# The proxy looks at its files twice a second; here it must not miss a round.
PROGRAM = """
import sys
from fairqueue_cli.main import main
from fairqueue_proxy import document_watch
document_watch.LOOK_SECONDS = 0.03
sys.exit(main())
"""
SCRAPE_SECONDS = 0.1
UNREAD = "unread"
"""How those end who nobody is known by, while the policy only observes: the engine's answer, whatever it was."""

FATES = ("normal",) * 9 + ("leave_mid_stream",)


@dataclass(slots=True)
class Streamed:
    """A life, and the rounds of which one was in force when its key was looked at."""

    life: Life
    first: int
    last: int = -1


async def test_forty_streams_live_through_two_seconds_of_reloads(tmp_path: Path) -> None:
    await soak(tmp_path, int(os.environ.get("FAIRQUEUE_SOAK_SEED", "1")), streams=40, seconds=2)


@pytest.mark.long
async def test_two_hundred_streams_live_through_a_minute_of_reloads(tmp_path: Path) -> None:
    seed = int(os.environ.get("FAIRQUEUE_SOAK_SEED", random.SystemRandom().randrange(1_000_000)))
    await soak(tmp_path, seed, streams=200, seconds=60)


@pytest.mark.parametrize(("streams", "seconds"), [(30, 2), pytest.param(200, 30, marks=pytest.mark.long)])
async def test_streams_live_through_policies_that_only_observe_every_other_time(
    tmp_path: Path, streams: int, seconds: int
) -> None:
    seed = int(os.environ.get("FAIRQUEUE_SOAK_SEED", random.SystemRandom().randrange(1_000_000)))
    await soak(tmp_path, seed, streams=streams, seconds=seconds, observing=0.5)


async def soak(folder: Path, seed: int, *, streams: int, seconds: float, observing: float = 0.0) -> None:
    print(f"FAIRQUEUE_SOAK_SEED={seed}")
    source = random.Random(seed)
    log, config = folder / "log", folder / "config"
    config.mkdir()
    rounds = Rounds(folder, source, config / "document.json", observing=observing)
    options = ("--config", config, "--engine-kind", "TGI", "--last-good", folder / "last-good.json")
    done: list[Streamed] = []
    async with (
        running_engine("tgi", profile="tiny", speed=0.4, slots=12, max_concurrent_requests=1000, seed=seed) as engine,
        serving(engine.port, log, *options, program=("-c", PROGRAM)) as stack,
    ):
        until = time.monotonic() + seconds
        found = Increases()
        scraping = asyncio.create_task(_scrape(stack, found, keeps_order=not observing))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(rounds.run(stack, until))
            for _ in range(streams):
                tasks.create_task(_stream_on(rounds, source, stack, done, until))
        await _until_quiet(stack, engine)
        scraping.cancel()
        (ended,) = await asyncio.gather(scraping, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError), ended
        found.scrape(metrics := await stack.metrics(), from_0=True)
    lines = log_lines(log, expected_error="the new configuration is not used")
    _check_each(done, lines, rounds, engine)
    _check_sums(lines, found, metrics, rounds)
    outcomes = Counter(map(_ended_as, lines.values()))
    print(f"{len(rounds.all)} rounds, {rounds.broken} broken documents, {dict(outcomes)}")
    assert len(rounds.all) > seconds * 5
    assert outcomes["completed"] > streams
    assert set(outcomes) == {"completed", "client_gone", "unauthenticated"} | ({UNREAD} if observing else set())


def _ended_as(line: dict[str, Any]) -> str:
    return str(line.get("outcome", UNREAD))


async def _stream_on(rounds: Rounds, source: random.Random, stack: Stack, done: list[Streamed], until: float) -> None:
    """One stream after the other."""
    while time.monotonic() < until:
        if rounds.confirmed < 0:
            await asyncio.sleep(0.01)
            continue
        each = Streamed(_draw(rounds, source, len(done)), rounds.confirmed)
        done.append(each)
        async with asyncio.timeout(60):
            await live(each.life, stack.data.host, stack.data.port)
        each.last = rounds.published


def _draw(rounds: Rounds, source: random.Random, number: int) -> Life:
    """A stream of somebody who is there, most of the time, with the newest key."""
    present = rounds.all[rounds.confirmed].keys
    name = source.choice(NAMES)
    key = present.get(name, f"{name}-gone") if source.random() < 0.95 else f"{name}-gone"
    tokens, words = source.randint(5, 60), "word " * source.randint(1, 30)
    path, body = "/generate_stream", _native(words, tokens)
    if source.random() < 0.5:
        path = "/v1/chat/completions"
        body = {"messages": [{"role": "user", "content": words}], "max_tokens": tokens, "stream": True}
        body["user"] = f"user{number % 3}"
    how = source.choice(["close", "reset", "half-close"])
    return Life(number, key, path, body, True, source.choice(FATES), how, 0.0, f"stream-{number}")


def _native(words: str, tokens: int) -> dict[str, Any]:
    return {"inputs": words, "parameters": {"max_new_tokens": tokens}}


def _check_each(done: list[Streamed], lines: dict[str, dict[str, Any]], rounds: Rounds, engine: RunningEngine) -> None:
    truths: defaultdict[str, list[RequestTruth]] = defaultdict(list)
    for truth in engine.truth.requests:
        truths[truth.request_id or ""].append(truth)
    assert len(lines) == len(done)
    for each in done:
        life, line = each.life, lines[each.life.request_id]
        seen = rounds.all[each.first : each.last + 1]
        good = {life.tenant in each_round.valid for each_round in seen}
        where = f"{each}\n{line}"
        if _ended_as(line) == UNREAD:
            assert False in good, where
            assert "Observe" in {each_round.document.mode for each_round in seen}, where
            assert (life.status, line["would_be"], line["tenant"]) == (200, "unauthenticated", ""), where
            assert life.complete or life.fate != "normal", where
            continue
        check_life(life, line, truths[life.request_id])
        if line["outcome"] == "unauthenticated":
            assert False in good, where
            assert life.status == 401, where
            assert not truths[life.request_id], where
            continue
        assert True in good, where
        assert life.status == 200, where
        assert b'"error"' not in life.reply, where
        assert line["cost"] == line["input_tokens"] + 2 * line["output_tokens"], where
        if life.fate == "normal":
            assert (line["outcome"], life.complete) == ("completed", True), where


def _check_sums(lines: dict[str, dict[str, Any]], found: Increases, metrics: str, rounds: Rounds) -> None:
    """What the counters have grown by over all tenants, those that are gone included, against the log."""
    ends = Counter(outcome for outcome in map(_ended_as, lines.values()) if outcome != UNREAD)
    everything = found.totals()
    assert {outcome: found.of("requests_total", outcome=outcome) for outcome in ends} == ends
    assert everything["fairqueue_requests_total"] == ends.total()
    tokens = sum(line.get("input_tokens", 0) + line.get("output_tokens", 0) for line in lines.values())
    assert everything["fairqueue_tokens_total"] == tokens
    assert everything["fairqueue_service_total"] == pytest.approx(sum(line.get("cost", 0) for line in lines.values()))
    assert everything["fairqueue_entitled_service_total"] <= everything["fairqueue_service_total"] * (1 + 1e-9)
    assert sample(metrics, "config_reload_failures_total") == rounds.broken


async def _scrape(stack: Stack, found: Increases, *, keeps_order: bool) -> None:
    """The gap is within its bound, and nothing that was counted is forgotten."""
    async with aiohttp.ClientSession(f"http://{stack.admin.host}:{stack.admin.port}") as session:
        while True:
            async with session.get("/metrics") as reply:
                text = await reply.text()
            if keeps_order:
                check_gap(text)
            found.scrape(text, from_0=True)
            assert found.restarts == set()
            await asyncio.sleep(SCRAPE_SECONDS)


async def _until_quiet(stack: Stack, engine: RunningEngine) -> None:
    """Waits for the last hang-ups to be noticed, then checks that nothing is left."""
    async with asyncio.timeout(10):
        while (queue := await stack.queue())["queued"] or queue["in_flight"] or engine.model.running:
            await asyncio.sleep(0.05)
    check_nothing_left(await stack.metrics(), await stack.queue())
    # The log comes through a pipe.
    await asyncio.sleep(0.1)
