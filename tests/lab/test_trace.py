"""Trace files: what is read is what was written, and whatever is wrong is named with its line."""

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_sim.lab.trace import Arrival, TraceError, read_trace, write_trace

HEADER = "arrival_seconds,tenant,prompt_tokens,output_tokens\n"
tokens = st.integers(1, 1_000_000)
names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
arrivals = st.builds(
    Arrival,
    seconds=st.floats(0, 1e6),
    tenant=names,
    prompt_tokens=tokens,
    output_tokens=tokens,
    max_tokens=st.none() | tokens,
    user=st.none() | names,
    cached_tokens=st.integers(0, 1_000_000),
    outcome=st.sampled_from([None, "completed", "queue_full"]),
)


def read(folder: Path, text: str) -> list[Arrival]:
    path = folder / "trace.csv"
    path.write_text(text, encoding="utf-8", newline="")
    return read_trace(path)


@given(st.lists(arrivals, min_size=1, max_size=5))
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[Arrival]) -> None:
    rows.sort(key=lambda arrival: arrival.seconds)
    file = io.StringIO()
    write_trace(file, rows)
    assert read(tmp_path_factory.mktemp("trace"), file.getvalue()) == rows


def test_columns_may_be_in_any_order_and_optional_ones_left_out(tmp_path: Path) -> None:
    text = "tenant,output_tokens,arrival_seconds,user,prompt_tokens\na,2,0.5,,1\n\nb,4,1e1,ann,3\n"
    assert read(tmp_path, text) == [Arrival(0.5, "a", 1, 2), Arrival(10.0, "b", 3, 4, user="ann")]


def test_one_that_was_refused_is_given_what_its_tenant_makes_in_the_mean(tmp_path: Path) -> None:
    text = HEADER + "0,a,1,0\n1,a,1,10\n2,a,1,20\n3,b,1,0\n4,c,1,90\n"
    assert [arrival.output_tokens for arrival in read(tmp_path, text)] == [15, 10, 20, 40, 90]


def test_one_that_was_completed_without_output_made_none(tmp_path: Path) -> None:
    head = HEADER.strip() + ",outcome\n"
    rows = read(tmp_path, head + "0,a,1,0,completed\n1,a,1,8,completed\n2,a,1,0,client_gone\n")
    assert [arrival.output_tokens for arrival in rows] == [0, 8, 8]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        pytest.param("", 1, "column arrival_seconds is missing", id="empty file"),
        pytest.param(
            "arrival_seconds,tenant,prompt_tokens\n", 1, "column output_tokens is missing", id="column missing"
        ),
        pytest.param(HEADER.strip() + ",prompt\n", 1, "unknown column 'prompt'", id="unknown column"),
        pytest.param(HEADER.strip() + ",tenant\n", 1, "column tenant is there twice", id="column twice"),
        pytest.param(HEADER + "0,a,1,2\n1,a,-1,2\n", 3, "prompt_tokens must be a whole number from 1", id="negative"),
        pytest.param(HEADER + "0,a,1,x\n", 2, "output_tokens must be a whole number from 0", id="no number"),
        pytest.param(HEADER + "0,a,1,1.5\n", 2, "output_tokens must be a whole number", id="a half"),
        pytest.param(HEADER + "0,a,1,9999999\n", 2, "output_tokens must be a whole number", id="absurd"),
        pytest.param(HEADER + "0,a,0,1\n", 2, "prompt_tokens must be a whole number from 1", id="no prompt"),
        pytest.param(HEADER + "-1,a,1,2\n", 2, "arrival_seconds must be a number of seconds, 0 or more", id="before 0"),
        pytest.param(HEADER + "nan,a,1,2\n", 2, "arrival_seconds must be a number of seconds", id="nan"),
        pytest.param(HEADER + "inf,a,1,2\n", 2, "arrival_seconds must be at most 1000000000: count from", id="inf"),
        pytest.param(HEADER + "1760000000,a,1,2\n", 2, "arrival_seconds must be at most 1000000000", id="a date"),
        pytest.param(HEADER + "1,a,1,2\n2,a,1,2\n1.5,a,1,2\n", 4, "is before 2 of the line above: sort", id="unsorted"),
        pytest.param(HEADER + "1,a,1\n", 2, "has 3 fields, the header has 4", id="a field missing"),
        pytest.param(HEADER + "1,,1,2\n", 2, "tenant is empty", id="no tenant"),
    ],
)
def test_what_is_wrong_is_named_with_file_line_and_what_is_allowed(
    tmp_path: Path, text: str, line: int, said: str
) -> None:
    with pytest.raises(TraceError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'trace.csv'}:{line}: ")
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(HEADER.encode(), "has no requests", id="header only"),
        pytest.param((HEADER + "0,a,1,0\n").encode(), "no request has output_tokens", id="refused only"),
        pytest.param(b"\xff\xfe\x00", "is no CSV text in UTF-8", id="binary"),
        pytest.param((HEADER + '0,"a,1,2\n').encode(), "is no CSV text in UTF-8", id="open quote"),
    ],
)
def test_a_file_that_is_no_trace_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(content)
    with pytest.raises(TraceError, match=said):
        read_trace(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"gone\.csv: can't be read: No such file"):
        read_trace(tmp_path / "gone.csv")


def test_one_that_was_refused_is_given_no_more_than_it_allowed(tmp_path: Path) -> None:
    head = HEADER.strip() + ",max_tokens\n"
    rows = read(tmp_path, head + "0,a,1,0,16\n1,a,1,300,\n2,a,1,0,900\n")
    assert [arrival.output_tokens for arrival in rows] == [16, 300, 300]


def test_a_trace_of_embeddings_has_no_outputs(tmp_path: Path) -> None:
    rows = read(tmp_path, HEADER.strip() + ",outcome\n0,a,9,0,completed\n1,a,9,0,completed\n")
    assert [arrival.output_tokens for arrival in rows] == [0, 0]
