"""Durations mean what Go's `time.ParseDuration` says they mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_api.durations import DurationError, parse_duration

UNIT_NANOSECONDS = {"h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("-0", 0.0),
        ("0s", 0.0),
        ("500ms", 0.5),
        ("60s", 60.0),
        ("1m30s", 90.0),
        ("1h", 3600.0),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("1.s", 1.0),
        ("+5s", 5.0),
        ("-5s", -5.0),
        ("30s1m", 90.0),
        ("3us", 3e-6),
        ("3µs", 3e-6),
        ("3\u03bcs", 3e-6),
        ("1.5ns", 1e-9),
        ("0.000000001s", 1e-9),
    ],
)
def test_what_go_reads_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "+", "-", "60", "s", ".s", "1", "1 s", "1s ", "1d", "1S", "--1s", "1e3s", "1m30", "1..5s", "\u0661s", "1s\n"],
)
def test_what_go_refuses_is_refused(text: str) -> None:
    with pytest.raises(DurationError) as caught:
        parse_duration(text)
    assert (caught.value.what, caught.value.fix) == ("is not a duration", "write one such as 500ms, 60s or 1m30s")


@given(st.dictionaries(st.sampled_from(list(UNIT_NANOSECONDS)), st.integers(0, 10**6), min_size=1))
def test_a_sum_of_units_is_its_nanoseconds(parts: dict[str, int]) -> None:
    text = "".join(f"{count}{unit}" for unit, count in parts.items())
    assert parse_duration(text) == sum(count * UNIT_NANOSECONDS[unit] for unit, count in parts.items()) / 1e9


@given(st.text("0123456789.+-hmsnu", max_size=16))
def test_any_text_is_a_number_of_seconds_or_refused(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except DurationError:
        return
    assert abs(seconds) < 10**17 * 3600
