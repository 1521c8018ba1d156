"""The data-plane benchmark: how it searches, believes, compares, keeps and shows; and a short run of it on sockets.

Figures of that run depend on the machine and are not looked at, only that they are there. The compiled tools have
tests of their own.
"""

import asyncio
import os
import shutil
import sys
from pathlib import Path

import pytest
from msgspec import structs

from bench.refused_input import exit_code
from child_processes import interrupted, runs
from data_plane_bench.children import Cores
from data_plane_bench.compiled import Tools, compiled
from data_plane_bench.goals import goals_of
from data_plane_bench.load import Latency, Reading
from data_plane_bench.maximum import carries
from data_plane_bench.measures import MEASURES
from data_plane_bench.noise import MOST_TRIES, Noise, NoiseWatch, least_noisy, tried
from data_plane_bench.picture import draw
from data_plane_bench.plan import FULL, Plan, for_slow
from data_plane_bench.processes import descendants, memory_bytes, run_seconds, tree_run_seconds
from data_plane_bench.proxies import BASE, CONFIGS, FAIRQUEUE, FAIRQUEUE_VLLM, PROXIES, REFERENCE
from data_plane_bench.requests import OPENAI, SHORT_BYTES, TGI
from data_plane_bench.results import Results, Round
from data_plane_bench.rounds import Bench, applies, in_turn, run_rounds
from data_plane_bench.runs import Run
from data_plane_bench.search import largest
from data_plane_bench.spans import Span
from data_plane_bench.summary import Spread, Summary
from data_plane_bench.tables import markdown, run_line
from data_plane_bench.units import spelled, spelled_bound

COMMAND = Path(__file__).resolve().parents[2] / "bench" / "data_plane.py"
PATIENCE_SECONDS = 60
QUIET, LOUD = Noise(0.01, 0.0), Noise(0.05, 0.05)
NAMES = [BASE, REFERENCE, FAIRQUEUE]


async def searched(limit: float, start: float = 1_000, precision: float = 0.03, most: float = 1e6) -> float | None:
    asked: list[float] = []

    async def is_carried(rate: float) -> bool:
        asked.append(rate)
        return rate <= limit

    found = await largest(is_carried, start, precision, most)
    assert len(asked) == len(set(asked))
    return found


@pytest.mark.parametrize(
    "limit",
    [
        pytest.param(47_000, id="far above the start"),
        pytest.param(1_010, id="right above it"),
        pytest.param(990, id="right below it"),
        pytest.param(31, id="far below it"),
    ],
)
async def test_the_largest_rate_is_found_to_the_precision(limit: float) -> None:
    found = await searched(limit)
    assert found is not None
    assert limit / 1.03 <= found <= limit


async def test_a_search_ends_where_it_is_told_to_end() -> None:
    assert await searched(1e9, most=50_000) == 50_000
    assert await searched(1) is None


async def test_a_noisy_try_is_repeated_and_the_least_noisy_believed_whatever_its_result() -> None:
    coming = [Run({"p99_us": 1}, LOUD), Run({"p99_us": 9}, Noise(0.0, 0.09)), Run({"p99_us": 1}, LOUD), Run()]
    left = iter(coming)

    async def measure() -> Run:
        return next(left)

    tries = await tried(measure)
    assert tries == coming[:MOST_TRIES]
    assert least_noisy(tries).figures == {"p99_us": 9}
    assert least_noisy(tries).remarks == ["noisy: 9% of the CPU went to others"]
    assert next(left) == Run()


async def test_a_quiet_try_is_not_repeated() -> None:
    async def measure() -> Run:
        return Run(noise=QUIET)

    assert len(await tried(measure)) == 1


def span(events: int, reads: int, p99: float | None = 100.0, broken: int = 0) -> Span:
    latency = None if p99 is None else Latency(p50=50, p99=p99, max=p99)
    return Span(1_000, Reading(2, events, reads, 170 * events, broken, 4, latency), 0.02, 0, 0, QUIET)


def test_a_span_tells_what_an_event_costs() -> None:
    run = span(2_000, 2_000).run()
    assert run.invalid == ""
    assert (run.figures["cpu_us_per_event"], run.figures["events_per_second"]) == (10, 1_000)
    assert (run.figures["bytes_per_event"], run.figures["cores"]) == (170, 0.01)


@pytest.mark.parametrize(
    ("it", "said"),
    [
        pytest.param(span(2_000, 1_800), "1.11 events per read", id="coalesced"),
        pytest.param(span(1_950, 1_950), "97.5% of the events came", id="not delivered"),
        pytest.param(span(0, 0, p99=None), "no event came", id="nothing"),
    ],
)
def test_a_span_that_flatters_is_invalid_and_no_rate_that_is_carried(it: Span, said: str) -> None:
    assert it.run().invalid == said
    assert not carries(it)


def test_a_rate_is_carried_when_all_events_come_in_time_and_no_stream_breaks() -> None:
    assert carries(span(1_970, 1_970, p99=5_000))
    assert not carries(span(2_000, 2_000, p99=5_001))
    assert not carries(span(2_000, 2_000, broken=1))


def a_round(number: int, **figures: float) -> Round:
    """Of CPU, with one figure of each proxy."""
    runs = {
        name.replace("_", "-"): [Run({"cpu_us_per_event": it, "p50_us": it}, QUIET)] for name, it in figures.items()
    }
    return Round("cpu", number, FULL, "then", runs)


def test_figures_are_compared_within_their_round() -> None:
    summary = Summary(
        [a_round(1, nginx=10, fairqueue_tgi=11), a_round(2, nginx=20, fairqueue_tgi=24), a_round(3, nginx=9)]
    )
    assert summary.spread("cpu", "nginx", "cpu_us_per_event") == Spread(10, 9, 20)
    assert summary.ratio("cpu", FAIRQUEUE, "nginx", "cpu_us_per_event") == Spread(pytest.approx(1.15), 1.1, 1.2)
    assert summary.added("cpu", FAIRQUEUE, "nginx", "p50_us") == Spread(2.5, 1, 4)
    assert summary.ratio("cpu", FAIRQUEUE, "envoy", "cpu_us_per_event") is None
    assert summary.spread("max", "nginx", "events_per_second") is None


def test_what_is_invalid_does_not_count_and_is_told() -> None:
    good = a_round(1, nginx=10, fairqueue_tgi=11)
    bad = structs.replace(good, number=2, runs={**good.runs, "nginx": [Run({"cpu_us_per_event": 1}, invalid="why")]})
    summary = Summary([good, bad])
    assert summary.spread("cpu", "nginx", "cpu_us_per_event") == Spread(10, 10, 10)
    assert "- left out: cpu, nginx, round 2: why" in markdown(summary)


def test_a_goal_is_met_by_the_median_and_unknown_without_nginx() -> None:
    def first(*rounds: Round) -> bool | None:
        return goals_of(Summary(rounds))[0].met

    assert first(a_round(1, nginx=10, fairqueue_tgi=12)) is True
    assert first(a_round(1, nginx=10, fairqueue_tgi=12), a_round(2, nginx=10, fairqueue_tgi=13)) is False
    assert first(a_round(1, fairqueue_tgi=12)) is None


def test_the_page_has_goals_then_proxies_side_by_side_then_what_was_missing() -> None:
    lines = markdown(
        Summary([a_round(1, direct=0, nginx=10, fairqueue_tgi=12)]), ["envoy: `make bench` installs it"]
    ).splitlines()
    goal = "| CPU per event at 25,600 events/s, against nginx (TGI) | at most 1.2 times | 1.20 | yes |"
    assert lines[0] == "| what | goal | measured | met |"
    assert lines[2] == goal
    assert "| nginx | 1.00 | 10.0 | 10 |  |  |  |" in lines
    assert "| no proxy |  |  | 0 |  |  |  |" in lines
    assert lines[-1] == "Not measured: envoy: `make bench` installs it."


def test_figures_are_spelled_with_their_range() -> None:
    assert spelled(Spread(11e6, 10e6, 12.34e6), "MB") == "11.0 [10.0 to 12.3]"
    assert spelled(Spread(50_000, 50_000, 50_000), "events/s") == "50,000"
    assert spelled(None, "times") == ""
    assert (spelled_bound(0.1, "ms"), spelled_bound(60e6, "MB")) == ("100 ms", "60 MB")


def test_progress_tells_figures_and_what_is_to_be_known() -> None:
    run = Run({"p50_us": 61.234, "p99_us": 1234.5}, LOUD, "why", ["2 streams broke"])
    assert run_line("nginx", "latency", run, 3).splitlines() == [
        "  nginx: p50_us 61.23, p99_us 1,234 (3 tries)",
        "    invalid: why",
        "    noisy: 10% of the CPU went to others",
        "    2 streams broke",
    ]


def test_a_picture_is_drawn_of_whatever_there_is(tmp_path: Path) -> None:
    file = tmp_path / "new" / "picture.png"
    draw(Summary([a_round(1, nginx=10, fairqueue_tgi=12)]), file)
    assert file.read_bytes().startswith(b"\x89PNG")
    draw(Summary([]), file)


def test_a_round_is_found_again_if_it_is_what_is_asked_for(tmp_path: Path) -> None:
    results, kept = Results(tmp_path / "new"), a_round(1, nginx=10, direct=0)
    assert results.find("cpu", 1) is None
    results.keep(kept)
    assert results.find("cpu", 1, FULL, ["nginx"]) == kept
    assert results.find("cpu", 1, FULL, ["nginx", "envoy"]) is None
    assert results.find("cpu", 1, structs.replace(FULL, seconds=5)) is None
    assert results.rounds(["cpu", "max"], 5) == [kept]
    results.forget(["cpu"])
    assert results.rounds(["cpu"], 5) == []


def test_a_file_that_cant_be_read_is_no_result(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.keep(a_round(1, nginx=10)).write_text("{")
    assert results.find("cpu", 1) is None


def test_each_round_begins_with_another_proxy() -> None:
    assert [in_turn(NAMES, number)[0] for number in range(1, 5)] == [*NAMES, BASE]
    assert sorted(in_turn(NAMES, 2)) == sorted(NAMES)


def test_a_slow_proxy_is_asked_for_less() -> None:
    slow = next(proxy for proxy in PROXIES.values() if proxy.is_slow)
    assert not applies("cpu", slow)
    assert applies("max", slow)
    assert for_slow(FULL).latency_rate < FULL.latency_rate
    assert not applies("memory", PROXIES[BASE])
    assert [name for name in PROXIES if applies("flat", PROXIES[name])] == [FAIRQUEUE, FAIRQUEUE_VLLM]


async def test_what_takes_long_is_measured_once(tmp_path: Path) -> None:
    """With nothing that it applies to, a measure is over at once: only what is there already is said."""
    results, said = Results(tmp_path), list[str]()
    for number in (1, 2):
        results.keep(structs.replace(a_round(number, nginx=10), measure="flat"))
    nothing = Bench(FULL, Tools(tmp_path, tmp_path), Cores(0, 0), results, said.append)
    await run_rounds(nothing, ["nginx"], ["flat"], 2)
    assert said == ["flat, round 1 of 2: there already"]


def test_short_requests_are_as_long_as_they_are_said_to_be() -> None:
    assert len(TGI.short_body) == len(OPENAI.short_body) == SHORT_BYTES


@pytest.mark.parametrize("name", [name for name in PROXIES if name not in (BASE, "aiohttp")])
def test_a_configuration_is_filled_in(name: str, tmp_path: Path) -> None:
    launch = PROXIES[name].launch
    assert launch is not None
    launch(4321, tmp_path)
    said = "".join(file.read_text() for file in tmp_path.iterdir() if file.name in os.listdir(CONFIGS))
    assert ("4321" in said) == (name in ("nginx", "envoy", "litellm"))
    assert "@upstream@" not in said


async def test_processes_are_counted_with_those_that_they_started() -> None:
    watch = NoiseWatch(os.sched_getaffinity(0))
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    assert await child.stdout.readline() == b"1\n"
    assert len(descendants(child.pid)) == 2
    assert tree_run_seconds(child.pid) > run_seconds(child.pid) > 0
    assert memory_bytes(child.pid) > 1e6
    assert watch.read().foreign >= 0
    await child.communicate(b"\n")
    assert (run_seconds(child.pid), memory_bytes(child.pid)) == (0, 0)


needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@pytest.fixture
def bench(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, list[str]]:
    """For a tiny plan, and what it says."""
    plan = Plan(
        *(0.3, 0.1, 4),
        cpu_rate=400,
        latency_rate=400,
        burst_rate=400,
        hangup_rate=400,
        max_from_rate=200,
        max_to_rate=300,
        connections=2,
        short_rate=100,
        idle_streams=8,
        held_streams=12,
        held_rate=120,
        flat_few=10,
        flat_many=50,
    )
    said: list[str] = []
    folder = tmp_path_factory.getbasetemp() / "data-plane-tools"
    return Bench(plan, compiled(folder), Cores.allowed(), Results(tmp_path), said.append), said


@pytest.mark.long
@needs_cc
async def test_everything_is_measured_on_sockets(bench: tuple[Bench, list[str]]) -> None:
    it, said = bench
    measures = [measure for measure in MEASURES if applies(measure, PROXIES[BASE])]
    async with asyncio.timeout(PATIENCE_SECONDS):
        await run_rounds(it, [BASE], measures, 1)
    found = {each.measure: each.runs[BASE][0] for each in it.results.rounds(measures, 1)}
    assert not [line for line in said if "failed" in line]
    assert list(found) == ["cpu", "max", "latency", "burst", "short", "held", "hangup"]
    assert found["held"].figures["held"] == 12
    assert found["burst"].figures["bytes_per_event"] > 100
    assert found["short"].figures["requests_per_second"] > 0
    assert not found["hangup"].invalid


@needs_cc
async def test_a_proxy_is_measured_and_ended_and_the_next_run_goes_on(bench: tuple[Bench, list[str]]) -> None:
    it, said = bench
    names, before = [BASE, FAIRQUEUE], descendants(os.getpid())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await run_rounds(it, names, ["latency", "memory", "hangup"], 1)
    assert not [line for line in said if "failed" in line]
    runs = {each.measure: each.runs[FAIRQUEUE][0] for each in it.results.rounds(tuple(MEASURES), 1)}
    assert runs["latency"].figures["cpu_us_per_event"] > 0
    assert runs["memory"].figures["base_bytes"] > 1e6
    assert not runs["memory"].troubles
    assert not runs["hangup"].invalid
    assert descendants(os.getpid()) == before
    said.clear()
    await run_rounds(it, names, ["latency", "memory", "hangup"], 1)
    assert said == [f"{measure}, round 1 of 1: there already" for measure in ("latency", "memory", "hangup")]


async def start(*options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, str(COMMAND), *options), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


@needs_cc
async def test_ctrl_c_ends_the_run_and_all_that_it_started(tmp_path: Path) -> None:
    process = await start("--only", "fairqueue-tgi", "--measure", "latency", "--results", str(tmp_path))
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await process.stderr.readline() != b"latency, round 1 of 5:\n":
            pass
    rest, children = await interrupted(process, 3)
    assert rest == b"interrupted: run it again to go on with the rounds that are left\n"
    assert not any(runs(child) for child in children)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(["--only", "direct,pears"], "there is no pears: there are direct, nginx", id="unknown proxy"),
        pytest.param(["--measure", "speed"], "there is no speed: there are cpu, max", id="unknown measure"),
        pytest.param(["--rounds", "0"], "must be a whole number, 1 or more", id="no rounds"),
    ],
)
def test_bad_input_is_answered_with_a_line_and_code_2(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(COMMAND, *options) == 2
    assert said in capsys.readouterr().err
