"""Words for a reader who never heard of a scheduler."""

import pytest

from fairqueue_sim.lab.orders import order_names
from fairqueue_sim.lab.plain_words import format_count, format_seconds, printable, scheduler_in_words


@pytest.mark.parametrize("scheduler", [*order_names(), "fairqueue"])
def test_each_scheduler_has_words_of_its_own(scheduler: str) -> None:
    words = scheduler_in_words(scheduler.replace("N", "7"))
    others = {scheduler_in_words(other) for other in [*order_names(), "fairqueue"] if other != scheduler}
    assert words
    assert words not in others


def test_numbers_of_a_scheduler_are_in_its_words() -> None:
    assert scheduler_in_words("rpm:15") == "first come, first served, 15 requests a minute each"
    assert scheduler_in_words("vtc-oracle:20") == "least served first, lengths known to 20 %"


@pytest.mark.parametrize("unknown", [None, "", "monday.yaml"])
def test_nothing_is_said_of_what_is_unknown(unknown: str | None) -> None:
    assert scheduler_in_words(unknown) == ""


@pytest.mark.parametrize(
    ("name", "most", "shown"),
    [
        pytest.param("plain name", None, "plain name", id="plain"),
        pytest.param("two\nlines\t", None, "two\ufffdlines\ufffd", id="lines"),
        pytest.param("\u202egnp.exe", None, "\ufffdgnp.exe", id="direction"),
        pytest.param("12345", 5, "12345", id="just fits"),
        pytest.param("123456", 5, "1234…", id="cut"),
    ],
)
def test_a_name_is_one_line_without_control_characters(name: str, most: int | None, shown: str) -> None:
    assert printable(name, most) == shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0123456, "0.0123 s"), (3.0, "3 s"), (99.94, "99.9 s"), (140.6, "141 s"), (12345.6, "12,346 s"), (None, "none")],
)
def test_seconds_have_three_digits_that_matter(seconds: float | None, text: str) -> None:
    assert format_seconds(seconds) == text


def test_one_is_not_many() -> None:
    assert [format_count(count, "request") for count in (0, 1, 1620)] == ["0 requests", "1 request", "1,620 requests"]
