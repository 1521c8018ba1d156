"""The demo's table and picture, from results made by hand."""

from pathlib import Path

import pytest

from cli.samples import reply, result
from fairqueue_cli.demo_plot import draw
from fairqueue_cli.demo_report import Phase, format_comparison, make_phase
from fairqueue_cli.load_reply import Outcome, Reply
from fairqueue_cli.load_spec import TenantSpec

BATCH = TenantSpec("batch", workers=24)
CHAT = TenantSpec("chat", workers=4)


def phase(title: str, chat: list[Reply], batch: list[Reply], ended_at: float = 10.0) -> Phase:
    return make_phase(title, title, result({BATCH: batch, CHAT: chat}, ended_at=ended_at))


@pytest.fixture
def alone() -> Phase:
    chat = [reply(0.0, 8.0, 10.0, 40), reply(0.0, 9.0, 10.0, 40)]
    return phase("engine alone", chat, [reply(0.0, 1.0, 9.0, 320)])


@pytest.fixture
def fair() -> Phase:
    chat = [reply(0.0, 0.5, 2.0, 180), reply(2.0, 0.25, 3.0, 20)]
    return phase("with fairqueue", chat, [reply(0.0, 3.0, 9.0, 160)])


def test_both_phases_stand_side_by_side(alone: Phase, fair: Phase) -> None:
    lines = [" ".join(line.split()) for line in format_comparison(alone, fair, "chat").splitlines()]
    assert lines == [
        "engine alone with fairqueue",
        "batch: time to first token, p50 1.00 s 3.00 s",
        "batch: time to first token, p95 1.00 s 3.00 s",
        "batch: first tokens measured (n) 1 1",
        "batch: tokens per second 32.0 16.0",
        "chat: time to first token, p50 8.00 s 0.250 s",
        "chat: time to first token, p95 9.00 s 0.500 s",
        "chat: first tokens measured (n) 2 2",
        "chat: tokens per second 8.0 20.0",
        "all: tokens per second 40.0 36.0",
        "measured for 10 s 10 s",
        "",
        "A chat user waits 0.250 s for the first token with fairqueue, 8.00 s without: 32.0 times shorter (p50).",
        "The engine makes 0.90 of the tokens per second that it made alone.",
    ]


def test_a_worse_result_is_said_as_plainly(alone: Phase, fair: Phase) -> None:
    assert "8.00 s for the first token with fairqueue, 0.250 s without: 32.0 times longer" in format_comparison(
        fair, alone, "chat"
    )


def test_refusals_and_phases_without_a_reply_are_shown(alone: Phase) -> None:
    refused = reply(0.0, None, 1.0, outcome=Outcome.REFUSED, detail="401")
    text = format_comparison(alone, phase("with fairqueue", [refused, refused], []), "chat")
    assert "with fairqueue: chat: 2 x 401" in text
    assert "A chat user waits" not in text


def test_the_picture_is_a_png(alone: Phase, fair: Phase, tmp_path: Path) -> None:
    file = tmp_path / "demo.png"
    draw([alone, fair], "chat", file)
    picture = file.read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(picture) > 10_000


def test_what_was_measured_decides_the_picture(alone: Phase, fair: Phase, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in range(2)]
    draw([alone, fair], "chat", files[0])
    draw([alone, phase("with fairqueue", [], [])], "chat", files[1])
    assert files[0].read_bytes() != files[1].read_bytes()
