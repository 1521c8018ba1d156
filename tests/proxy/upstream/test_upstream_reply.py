"""The reply parser alone, without sockets: framing, limits, and that cuts between reads change nothing."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_proxy.upstream_reply import MAX_HEAD_BYTES, MAX_HEADERS, BadReply, ReplyParser
from upstream_engine import OK, OK_EVENTS, RecordingSink

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def read(*parts: bytes, method: str = "GET", eof: bool = False) -> tuple[RecordingSink, ReplyParser]:
    sink = RecordingSink()
    reply = ReplyParser(sink, method=method)
    for part in parts:
        reply.feed(part)
    if eof:
        reply.feed_eof()
    return sink, reply


VALID_REPLIES = {
    "length": (OK, "GET"),
    "no_reason": (b"HTTP/1.1 429\r\nContent-Length: 1\r\n\r\nx", "GET"),
    "empty": (b"HTTP/1.1 200 OK\r\nX-Empty:\r\nX-Blank:  \r\nContent-Length: 0\r\n\r\n", "GET"),
    "chunked": (CHUNKED + b"5;ext=1\r\nhello\r\nA\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n", "GET"),
    "interim": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + OK, "GET"),
    "head": (b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n", "HEAD"),
    "no_content": (b"HTTP/1.1 204 No Content\r\n\r\n", "GET"),
    "not_modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "GET"),
}


@pytest.mark.parametrize("name", VALID_REPLIES)
@given(data=st.data())
def test_any_cut_into_reads_gives_the_same_callbacks(name: str, data: st.DataObject) -> None:
    reply_bytes, method = VALID_REPLIES[name]
    cuts = data.draw(st.lists(st.integers(0, len(reply_bytes)), max_size=12).map(sorted))
    edges = [0, *cuts, len(reply_bytes)]
    parts = [reply_bytes[start:end] for start, end in pairwise(edges) if start < end]

    whole_sink, whole_reply = read(reply_bytes, method=method)
    sink, reply = read(*parts, method=method)

    assert whole_reply.ended
    assert reply.ended
    assert sink.events == whole_sink.events
    assert reply.reusable == whole_reply.reusable


def test_a_reply_with_a_length_is_passed_on_and_its_connection_can_be_reused() -> None:
    sink, reply = read(OK)
    # `reply_end` is the connection's to call.
    assert sink.events == OK_EVENTS[:-1]
    assert reply.ended
    assert reply.reusable


def test_chunks_are_unframed_and_trailers_dropped() -> None:
    sink, reply = read(*(bytes([byte]) for byte in VALID_REPLIES["chunked"][0]))
    assert sink.events == [("head", 200, b"OK", [(b"transfer-encoding", b"chunked")]), ("data", b"hello0123456789")]
    assert reply.reusable


def test_trailers_do_not_count_against_the_limit_of_the_head() -> None:
    fields = (b"a: " + b"b" * 200 + b"\r\n") * 200
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + fields + b"\r\n"
    assert read(head + b"1\r\nx\r\n0\r\n" + fields + b"\r\n")[1].ended


def test_header_names_keep_their_spelling_and_empty_values_their_place() -> None:
    sink, _ = read(VALID_REPLIES["empty"][0])
    assert sink.events[0][3] == [(b"X-Empty", b""), (b"X-Blank", b""), (b"Content-Length", b"0")]


def test_interim_replies_are_swallowed() -> None:
    sink, reply = read(VALID_REPLIES["interim"][0])
    assert sink.events == OK_EVENTS[:-1]
    assert reply.reusable


def test_a_reply_to_head_has_no_body_and_is_not_trusted_for_reuse_when_it_announces_one() -> None:
    sink, reply = read(VALID_REPLIES["head"][0], method="HEAD")
    assert sink.kinds == ["head"]
    assert (reply.ended, reply.reusable) == (True, False)


def test_a_reply_to_head_that_announces_no_body_leaves_a_reusable_connection() -> None:
    _, reply = read(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", method="HEAD")
    assert (reply.ended, reply.reusable) == (True, True)


def test_a_body_sent_after_a_reply_to_head_is_not_delivered() -> None:
    sink, reply = read(OK, method="HEAD")
    assert sink.kinds == ["head"]
    assert (reply.ended, reply.reusable) == (True, False)


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_replies_that_never_have_a_body_end_with_their_head(status: bytes) -> None:
    sink, reply = read(b"HTTP/1.1 " + status + b"\r\n\r\n")
    assert sink.kinds == ["head"]
    assert (reply.ended, reply.reusable) == (True, True)


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
def test_a_reply_without_a_length_ends_with_the_connection(version: bytes) -> None:
    sink, reply = read(version + b" 200 OK\r\n\r\nab", b"cd", eof=True)
    assert sink.events == [("head", 200, b"OK", []), ("data", b"abcd")]
    assert (reply.ended, reply.reusable) == (True, False)


@pytest.mark.parametrize(
    ("head", "reusable"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n", True, id="1.1"),
        pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\n", False, id="1.1 close"),
        pytest.param(b"HTTP/1.0 200 OK\r\n", False, id="1.0"),
        pytest.param(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", True, id="1.0 keep-alive"),
        pytest.param(b"HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: h2c\r\n", True, id="upgrade offer"),
    ],
)
def test_version_and_connection_header_decide_about_reuse(head: bytes, reusable: bool) -> None:
    _, reply = read(head + b"Content-Length: 1\r\n\r\nx")
    assert (reply.ended, reply.reusable) == (True, reusable)


@pytest.mark.parametrize("garbage", [b"x", OK, OK * 3, b"HTTP/1.1 200 OK\r\n", b"\0" * 100_000])
@pytest.mark.parametrize("separate", [False, True], ids=["same read", "next read"])
def test_bytes_after_the_end_only_forbid_reuse(garbage: bytes, separate: bool) -> None:
    sink, reply = read(OK, garbage) if separate else read(OK + garbage)
    assert sink.events == OK_EVENTS[:-1]
    assert (reply.ended, reply.reusable) == (True, False)


@pytest.mark.parametrize(
    ("field", "seconds"),
    [
        (b"timeout=5", 5.0),
        (b"timeout=5, max=100", 5.0),
        (b"max=100, Timeout = 7", 7.0),
        (b'timeout="9"', 9.0),
        (b"xtimeout=5", None),
        (b"max=3", None),
    ],
)
def test_the_keep_alive_time_out_of_the_engine_is_read(field: bytes, seconds: float | None) -> None:
    _, reply = read(b"HTTP/1.1 200 OK\r\nkeep-alive: " + field + b"\r\nContent-Length: 0\r\n\r\n")
    assert reply.keep_alive_seconds == seconds


@pytest.mark.parametrize(
    ("reply_bytes", "reason"),
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", "malformed", id="another protocol"),
        pytest.param(b"HTTP/1.1 99 Low\r\n\r\n", "malformed", id="two-digit status"),
        pytest.param(b"HTTP/1.1 099 Low\r\n\r\n", "status 99", id="status below 100"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n", "malformed", id="folded header"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "malformed", id="negative length"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "malformed", id="two lengths"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
            "malformed",
            id="length and chunks",
        ),
        pytest.param(CHUNKED + b"zz\r\n", "malformed", id="chunk size"),
        pytest.param(CHUNKED + b"2\r\nabcd\r\n", "malformed", id="chunk too long"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "transfer coding", id="coding"),
        pytest.param(
            b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "101", id="upgrade"
        ),
        pytest.param(b"HTTP/1.1 101 Switching\r\n\r\n", "101", id="bare 101"),
    ],
)
def test_what_is_not_an_acceptable_reply_is_named(reply_bytes: bytes, reason: str) -> None:
    with pytest.raises(BadReply, match=reason):
        read(reply_bytes)


def test_a_head_of_exactly_the_limit_passes_and_a_byte_more_does_not() -> None:
    fixed_bytes = len(b"A: \r\n") + len(b"Content-Length: 0\r\n")
    value = b"v" * (MAX_HEAD_BYTES - fixed_bytes)

    def reply(extra: bytes) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: " + value + extra + b"\r\n\r\n"

    assert read(reply(b""))[1].ended
    with pytest.raises(BadReply, match="head"):
        read(reply(b"v"))


def test_the_number_of_header_fields_is_limited() -> None:
    head = b"HTTP/1.1 204 No Content\r\n"
    assert read(head + b"a: b\r\n" * MAX_HEADERS + b"\r\n")[1].ended
    with pytest.raises(BadReply, match="header fields"):
        read(head + b"a: b\r\n" * (MAX_HEADERS + 1) + b"\r\n")


@pytest.mark.parametrize(
    ("start", "more"),
    [
        pytest.param(b"HTTP/1.1 200 O", b"K" * 1000, id="reason"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", b"a" * 1000, id="header name"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: ", b"b" * 1000, id="header value"),
        pytest.param(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 40, id="interim replies"),
        pytest.param(CHUNKED + b"2\r\nhi\r\n0\r\n", b"T: t\r\n" * 160, id="trailers"),
        pytest.param(CHUNKED + b"2\r\nhi\r\n0\r\nT: ", b"t" * 1000, id="trailer value"),
        pytest.param(CHUNKED + b"2;", b"e" * 1000, id="chunk extension"),
    ],
)
def test_what_never_becomes_content_is_cut_off(start: bytes, more: bytes) -> None:
    with pytest.raises(BadReply):
        read(start, *[more] * (2 * MAX_HEAD_BYTES // len(more)))


def test_a_long_body_is_not_mistaken_for_an_endless_head() -> None:
    body = b"x" * (MAX_HEAD_BYTES * 3)
    sink, reply = read(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert sink.body == body
    assert reply.reusable


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        pytest.param(b"", "before it replied", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA:", "before it replied", id="half a head"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", "before it replied", id="interim only"),
        pytest.param(OK[:-1], "in the middle", id="half a body"),
        pytest.param(CHUNKED + b"2\r\nhi\r\n", "in the middle", id="no last chunk"),
        pytest.param(CHUNKED + b"2\r\nhi\r\n0\r\n", "in the middle", id="no end of trailers"),
    ],
)
def test_a_close_before_the_end_is_an_error(sent: bytes, reason: str) -> None:
    with pytest.raises(BadReply, match=reason):
        read(*[sent] if sent else [], eof=True)


@pytest.mark.parametrize("at", ["head", "data"])
def test_what_the_sink_raises_passes_through_unchanged(at: str) -> None:
    bug = OSError("disk full")

    def fail(kind: str) -> None:
        if kind == at:
            raise bug

    sink = RecordingSink(fail)
    with pytest.raises(OSError, match="disk full") as caught:
        ReplyParser(sink, method="GET").feed(OK)
    assert caught.value is bug
    assert sink.kinds[-1] == at


@pytest.mark.parametrize("at", ["head", "data"])
def test_after_mute_there_are_no_more_callbacks_even_within_one_read(at: str) -> None:
    def give_up(kind: str) -> None:
        if kind == at:
            reply.mute()

    sink = RecordingSink(give_up)
    reply = ReplyParser(sink, method="GET")
    reply.feed(CHUNKED + b"2\r\nhi\r\n2\r\nho\r\n0\r\n\r\n" + b"garbage")
    assert sink.kinds[-1] == at
    assert b"ho" not in sink.body
    assert not reply.ended
