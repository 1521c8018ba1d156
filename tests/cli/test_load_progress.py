"""The progress line on a terminal and elsewhere."""

import io
from collections import Counter

from cli.samples import reply, result
from fairqueue_cli.load_open import OpenPlan, OpenResult, Sent
from fairqueue_cli.load_progress import ProgressLine
from fairqueue_cli.load_reply import Outcome
from fairqueue_cli.load_run import LoadResult
from fairqueue_cli.load_spec import LoadPlan, TenantSpec
from fairqueue_sim.lab.trace import Arrival


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def some_result(measured_from: float | None = 0.0) -> LoadResult:
    refused = reply(0.0, None, 1.0, outcome=Outcome.REFUSED, detail="429")
    replies = [reply(0.0, 1.0, 4.0, 30), reply(0.0, 1.0, 4.0, 30), refused]
    return result({TenantSpec("chat"): replies}, ended_at=5.0, measured_from=measured_from)


def test_on_a_terminal_one_line_is_written_over_each_second() -> None:
    stream = Terminal()
    progress = ProgressLine(stream)
    for _ in range(3):
        progress(some_result())
    progress.close()
    assert stream.getvalue().count("\r\x1b[K   5 s  chat: 0 running, 2 replies, 1 refused or failed, 12 tokens/s") == 3
    assert stream.getvalue().endswith("\r\x1b[K")
    assert "\n" not in stream.getvalue()


def test_elsewhere_every_fifth_second_is_a_line() -> None:
    stream = io.StringIO()
    progress = ProgressLine(stream, "phase ")
    for _ in range(11):
        progress(some_result(measured_from=None))
    progress.close()
    assert [line[:25] for line in stream.getvalue().splitlines()] == ["phase    5 s (warming up)"] * 2


def test_an_open_loop_says_how_far_it_is() -> None:
    arrivals = [Arrival(0.0, "a", 1, 1), Arrival(600.0, "a", 1, 1)]
    sent = [Sent(arrivals[0], 0.0, reply(0.0, 1.0, 4.0))]
    outcomes = Counter({Outcome.COMPLETED: 4, Outcome.FAILED: 1, Outcome.REFUSED: 1})
    open_result = OpenResult(OpenPlan(LoadPlan("", "tgi", ()), arrivals, 10.0), 2.0, 5.0, sent, 3, outcomes)
    stream = Terminal()
    ProgressLine(stream).show_open(open_result)
    said = "  30 s of 600 s  1 of 2 sent, 3 running, 4 replies, 2 refused or failed"
    assert stream.getvalue() == f"\r\x1b[K{said}"
