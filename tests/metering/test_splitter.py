"""A stream of events is cut where its blank lines are, however the network cuts it."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fairqueue_proxy.metering import EventSplitter, OpaquePiece
from fairqueue_proxy.metering.sse import data_span

LIMIT_BYTES = 12

streams = st.lists(st.sampled_from([b"\n", b"\n\n", b"\r\n", b"\r", b"data: ", b"x", b":", b"abcdefgh"])).map(b"".join)


def _split(stream: bytes, marks: list[int], limit_bytes: int = LIMIT_BYTES) -> tuple[list[bytes], bytes]:
    splitter = EventSplitter(limit_bytes)
    edges = [0, *sorted(mark % (len(stream) + 1) for mark in marks), len(stream)]
    events = [event for begin, end in pairwise(edges) for event in splitter.feed(stream[begin:end])]
    return events, splitter.flush()


@given(stream=streams, marks=st.lists(st.integers(0, 1000), max_size=20))
@example(stream=b"abcdefghabc\n\r\nx", marks=[11, 12, 13])
@example(stream=b"abcdefghabc\n\nx\n\n", marks=[12])
def test_any_cutting_gives_the_same_events_and_loses_no_byte(stream: bytes, marks: list[int]) -> None:
    whole, whole_rest = _split(stream, [])
    events, rest = _split(stream, marks)
    assert [(type(event), event) for event in events] == [(type(event), event) for event in whole]
    assert rest == whole_rest
    assert b"".join(events) + rest == stream


@given(stream=streams, marks=st.lists(st.integers(0, 1000), max_size=20))
def test_an_event_ends_with_its_only_blank_line(stream: bytes, marks: list[int]) -> None:
    events, rest = _split(stream, marks, limit_bytes=10_000)
    for event in events:
        assert event.endswith((b"\n\n", b"\n\r\n"))
        assert b"\n\n" not in event[:-1]
        assert b"\n\r\n" not in event[:-1]
        assert type(event) is bytes
    assert b"\n\n" not in rest
    assert b"\n\r\n" not in rest


@given(stream=streams, marks=st.lists(st.integers(0, 1000), max_size=20))
def test_nothing_longer_than_the_limit_is_held_or_handed_out(stream: bytes, marks: list[int]) -> None:
    events, rest = _split(stream, marks)
    assert all(len(event) <= LIMIT_BYTES for event in [*events, rest])


def test_an_overlong_event_comes_in_opaque_pieces_and_the_next_one_whole() -> None:
    events, rest = _split(b"x" * 30 + b"\n\n" + b"data: 1\n\n", [])
    assert events == [b"x" * 12, b"x" * 12, b"x" * 6 + b"\n\n", b"data: 1\n\n"]
    assert [isinstance(event, OpaquePiece) for event in events] == [True, True, True, False]
    assert rest == b""


def test_a_blank_line_across_the_edge_of_an_opaque_piece_ends_the_event() -> None:
    events, _ = _split(b"x" * 11 + b"\n\ndata: 1\n\n", [])
    assert events == [b"x" * 11 + b"\n", b"\n", b"data: 1\n\n"]
    assert isinstance(events[1], OpaquePiece)
    assert not isinstance(events[2], OpaquePiece)


def test_the_rest_of_an_overlong_event_is_opaque_too() -> None:
    _, rest = _split(b"x" * 15, [])
    assert isinstance(rest, OpaquePiece)
    assert rest == b"xxx"


def test_comments_are_events() -> None:
    assert _split(b":\n\ndata: 1\n\n:\r\n\r\n", []) == ([b":\n\n", b"data: 1\n\n", b":\r\n\r\n"], b"")


def test_a_flushed_splitter_starts_anew() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: 1\n") == []
    assert splitter.flush() == b"data: 1\n"
    assert splitter.feed(b"\ndata: 2\n\n") == [b"\ndata: 2\n\n"]


@pytest.mark.parametrize("limit_bytes", [0, 2])
def test_a_limit_below_a_blank_line_is_refused(limit_bytes: int) -> None:
    with pytest.raises(ValueError, match="limit_bytes"):
        EventSplitter(limit_bytes)


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: {}\n\n", b"{}"),
        (b"data:{}\n\n", b"{}"),
        (b"data:  x\r\n\r\n", b" x"),
        (b"data: x", b"x"),
        (b"data:\n\n", b""),
        (b"event: e\ndata: x\nid: 1\n\n", b"x"),
        (b"\r\n: c\r\ndata: x\r\n\r\n", b"x"),
        (b"data: a\ndata: b\n\n", b"a\ndata: b"),
        (b":\n\n", None),
        (b"event: ping\n\n", None),
        (b"", None),
        (b"database: x\n\n", None),
    ],
)
def test_the_data_of_an_event_is_found(event: bytes, data: bytes | None) -> None:
    span = data_span(event)
    assert (None if span is None else event[span[0] : span[1]]) == data
