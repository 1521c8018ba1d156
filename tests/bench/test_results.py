"""Results that are kept: found again by cell, measured anew when the cell or what was asked for has changed."""

from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from socket_bench.bursts import Filled, Round
from socket_bench.cells import Burst, Engine, Light, Requests, Throughput
from socket_bench.halves import Half, Timing
from socket_bench.light import LightRun, queue_seconds_in
from socket_bench.machine import Machine
from socket_bench.pairs import Pair, PairsPlan, summary_of_pairs
from socket_bench.results import Result, Results
from socket_bench.tables import markdown, result_line

ENGINE = Engine("tgi", "TGI")
REQUESTS = Requests((64, 64), (64, 64))
CELL = Throughput("small", ENGINE, REQUESTS, 10)
PLAN = PairsPlan(10, 20, Timing(4, 8))
QUIET = Machine(0.0, 0.5, {"engine": 0.1}, 0.001)


def half(tokens: float, **fields: object) -> Half:
    usual = Half(tokens, tokens * 2, 9, 4.0, {}, {0: 90, 4: 10}, {0: 96, 3: 4}, 0.005, 0.0, QUIET)
    return replace(usual, **fields)


def pair(direct: float = 100.0, proxied: float = 99.0, **fields: object) -> Pair:
    return Pair("direct", half(direct), half(proxied, **fields))


RESULT = Result(CELL, PLAN, pairs=[pair()] * 10)


def test_a_result_is_found_again_as_it_was(tmp_path: Path) -> None:
    results = Results(tmp_path / "new" / "folder")
    assert results.find(CELL) is None
    results.keep(RESULT)
    assert results.find(CELL, PLAN) == RESULT


def test_a_result_of_a_cell_that_has_changed_is_none(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.keep(RESULT)
    assert results.find(structs.replace(CELL, clients=11)) is None


def test_a_result_of_less_than_is_asked_for_is_no_result_yet(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.keep(RESULT)
    assert results.find(CELL, replace(PLAN, pairs=11)) is None
    assert results.find(CELL, replace(PLAN, timing=Timing(4, 9))) is None
    assert results.find(CELL, replace(PLAN, pairs=5, timing=Timing(2, 4))) == RESULT


def test_a_file_that_cant_be_read_is_no_result(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.keep(RESULT).write_text("{")
    assert results.find(CELL) is None


def test_a_cell_is_met_when_all_of_its_goals_are() -> None:
    summary = summary_of_pairs([pair()] * 10)
    assert (summary.fitting_p95, summary.waiting_p95) == (0, 4)
    assert summary.idle_share == pytest.approx(0.005)
    assert summary.met
    assert not summary_of_pairs([pair(proxied=90.0)] * 10).met
    assert not summary_of_pairs([pair(fitting={3: 10})] * 10).met
    assert not summary_of_pairs([pair(idle_share=0.02)] * 10).met


def test_a_pair_is_doubtful_when_the_machine_was_or_requests_failed() -> None:
    assert not pair().troubles
    assert pair(machine=replace(QUIET, stolen=0.1)).troubles == ["proxied: 10% of the CPU was taken by other machines"]
    assert pair(behind=0.1).troubles == ["proxied: the engine was 10.0% too slow, it lacked CPU"]
    assert pair(troubles={"status 503": 2}).troubles == ["proxied: 2 times status 503"]
    late = replace(QUIET, busy=1.0, late_seconds=0.05)
    assert pair(machine=late).troubles == ["proxied: all cores were busy (100%), the clients were 50 ms late"]


def test_the_page_has_a_table_for_each_thing_that_was_measured() -> None:
    burst = Burst("burst", ENGINE, REQUESTS)
    filled = Filled(0.1, [0, 3], [0, 1], {})
    light = Light("light", ENGINE, REQUESTS, 10.0)
    results = [
        RESULT,
        Result(burst, PLAN, rounds=[Round(filled, replace(filled, full_after_seconds=0.11))]),
        Result(light, PLAN, light=[LightRun([0.0001, 0.0002], {}, QUIET)]),
    ]
    assert markdown(results).splitlines() == [
        "| cell | engine | output tokens/s, direct | through | ratio | waiting, p95 | in all, p95 | idle | met |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
        "| `small` | TGI | 100 | 99 | 0.990 [0.990, 0.990] | 0 | 4 | 0.50% | yes |",
        "",
        "| cell | engine | full after, direct | through | times | waiting then, p95 | in all, p95 | met |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
        "| `burst` | TGI | 100.0 ms | 110.0 ms | 1.10 | 1 | 3 | yes |",
        "",
        "| cell | engine | requests | in our queue, p50 | p99 | most | met |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
        "| `light` | TGI | 2 | 0.1 ms | 0.2 ms | 0.2 ms | yes |",
    ]
    assert [line.partition(":")[0] for line in map(result_line, results)] == ["small", "burst", "light"]


def test_a_burst_that_never_filled_the_engine_is_not_met() -> None:
    never = Round(Filled(0.1, [], [], {}), Filled(None, [], [], {}))
    result = Result(Burst("burst", ENGINE, REQUESTS), PLAN, rounds=[never])
    assert "| 100.0 ms | never |  | 0 | 0 | not yet |" in markdown([result])


def test_times_in_the_queue_are_read_from_the_lines_of_requests_that_were_served(tmp_path: Path) -> None:
    log = tmp_path / "proxy.log"
    log.write_text(
        'fairqueue: clients on 127.0.0.1:1\n{"message": "something"}\n'
        '{"message": "request", "outcome": "completed", "queue_seconds": 0.25}\n'
        '{"message": "request", "outcome": "queue_full", "queue_seconds": 9}\n'
    )
    assert queue_seconds_in(log) == [0.25]
