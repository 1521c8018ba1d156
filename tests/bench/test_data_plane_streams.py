"""The streams that `load` holds: each event is seen however it was cut, and each stream that fails is counted.

No latency is held to a bound that a busy machine could miss.
"""

import re
import socket
import time
from pathlib import Path

import pytest

from compiled_tools import (
    PATIENCE_SECONDS,
    Load,
    Upstream,
    chunked,
    event,
    holding,
    read_request,
    running_upstream,
    serving,
)


@pytest.mark.parametrize("path", ["/generate_stream", "/v1/chat/completions"])
def test_load_sees_each_event_that_was_sent(upstream: Upstream, load: Load, path: str) -> None:
    load.body = b'{"stream":true,"stream_options":{"include_usage":true}}'
    with holding(load, upstream.port, "--streams", "30", "--ramp", "7", path=path) as streams:
        assert (streams.ready["held"], streams.ready["refused"]) == (30, 0)
        first = streams.stop()
        assert (first["events"], first["open"]) == (30, 30)
        streams.tell("start")
        nothing = streams.stop()
        assert (nothing["events"], nothing["reads"], nothing["bytes"], nothing["latency_us"]) == (0, 0, 0, None)
        upstream.say("rate 100")
        streams.seen(lambda seen: bool(seen["events"] > 300))
        upstream.say("rate 0")
        sent = upstream.stats()["events"] - 30
        seen = streams.seen(lambda seen: bool(seen["events"] == sent))
        assert seen["reads"] <= seen["events"]
        assert seen["event_reads"] <= seen["reads"]
        assert (seen["other_events"], seen["broken"], seen["ended"]) == (0, 0, 0)
        latency = seen["latency_us"]
        order = [latency[name] for name in ("p50", "p90", "p99", "p999", "max")]
        assert order == sorted(order)
        assert 0 < latency["mean"] <= latency["max"] < seen["seconds"] * 1e6
        streams.quit()
    upstream.wait_for(streams=0)


def test_load_tells_streams_that_end_in_order(upstream: Upstream, load: Load) -> None:
    load.body = b'{"stream":true,"stream_options":{"include_usage":true}}'
    with holding(load, upstream.port, "--streams", "3", path="/v1/chat/completions") as streams:
        streams.tell("start")
        assert streams.stop()["open"] == 3
        upstream.say("finish")
        seen = streams.seen(lambda seen: bool(seen["open"] == 0))
        # Of each: why it ended, the usage, and [DONE].
        assert (seen["ended"], seen["broken"], seen["events"], seen["other_events"]) == (3, 0, 0, 9)


def test_load_tells_streams_that_break_and_those_of_before_start_are_forgotten(tools: Path, load: Load) -> None:
    with running_upstream(tools) as upstream, holding(load, upstream.port, "--streams", "4") as streams:
        upstream.process.terminate()
        assert streams.seen(lambda seen: bool(seen["open"] == 0))["broken"] == 4
        streams.tell("start")
        assert streams.stop()["broken"] == 0
        streams.quit()


def test_the_identities_take_turns(load: Load) -> None:
    load.headers = ["X-Key: one", "", "X-Key:two\r", "  X-Key: three  "]
    load.body = b"a body of its own"
    got: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        got.append(read_request(connection))
        connection.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy")

    with serving(serve) as port, holding(load, port, "--streams", "5", "--ramp", "1", path="/a?b=c") as streams:
        assert streams.ready["refused"] == 5
    assert [re.findall(rb"\r\nX-Key: ?(\w+)\r\n", request) for request in got] == [
        [b"one"],
        [b"two"],
        [b"three"],
        [b"one"],
        [b"two"],
    ]
    head, _, body = got[0].partition(b"\r\n\r\n")
    assert body == load.body
    assert head.startswith(b"POST /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % port)
    assert b"\r\nContent-Type: application/json\r\n" in head


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CUTS = {
    "byte by byte": lambda: byte_by_byte(HEAD + chunked(event()) + chunked(event())),
    "all at once": lambda: [HEAD + chunked(event()) + chunked(event())],
    "two events in a chunk": lambda: [HEAD + chunked(event() + event())],
    "an event in three chunks": lambda: [
        HEAD,
        chunked(event()),
        chunked(b'data: {"a": " t'),
        chunked(b'%019d"}' % time.monotonic_ns()),
        chunked(b"\n"),
        chunked(b"\n"),
    ],
    "lines that end in CR LF": lambda: [HEAD, *byte_by_byte(chunked((event() + event()).replace(b"\n", b"\r\n")))],
    "sizes in capitals with an extension": lambda: [
        HEAD,
        b"%X ; a=b\r\n%b\r\n" % (len(event("é")), event("é")),
        chunked(event()),
    ],
    "a head of before": lambda: [
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + HEAD,
        chunked(event()),
        chunked(event()),
    ],
    "a length": lambda: [b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", event(), event()],
    "neither length nor chunks": lambda: [b"HTTP/1.0 200 OK\r\n\r\n", event(), event()],
    "a long head": lambda: [
        HEAD[:-2] + b"Long: " + b"x" * 300_000 + b"\r\n\r\n",
        chunked(event("x" * 500_000)),
        chunked(event()),
    ],
}


@pytest.mark.parametrize("cut", CUTS)
def test_load_finds_two_events_however_they_are_cut(load: Load, cut: str) -> None:
    def serve(connection: socket.socket) -> None:
        if not read_request(connection):
            return
        for piece in CUTS[cut]():
            connection.sendall(piece)
        connection.recv(1)

    with serving(serve) as port, holding(load, port, "--streams", "1") as streams:
        seen = streams.seen(lambda seen: bool(seen["events"] == 2))
        assert (seen["other_events"], seen["open"], seen["broken"]) == (0, 1, 0)
        assert 0 <= seen["latency_us"]["p50"] <= seen["latency_us"]["max"] < PATIENCE_SECONDS * 1e6
        streams.quit()


@pytest.mark.parametrize(
    ("rest", "ended", "broken"),
    [
        pytest.param(b"0\r\n\r\n", 1, 0, id="the last chunk"),
        pytest.param(b"0\r\nA-Trailer: 1\r\n\r\n", 1, 0, id="a trailer"),
        pytest.param(b"", 0, 1, id="closed between chunks"),
        pytest.param(b"5\r\nab", 0, 1, id="closed in a chunk"),
        pytest.param(b"zz\r\n", 0, 1, id="no chunk"),
        pytest.param(b"1\r\nabc", 0, 1, id="a chunk too long"),
        pytest.param(b"\r\n", 0, 1, id="a size without digits"),
        pytest.param(b"0\r\n\r\nmore", 0, 1, id="something after the end"),
    ],
)
def test_load_tells_an_end_in_order_from_a_broken_one(load: Load, rest: bytes, ended: int, broken: int) -> None:
    def serve(connection: socket.socket) -> None:
        if read_request(connection):
            connection.sendall(HEAD + chunked(event()) + rest)

    with serving(serve) as port, holding(load, port, "--streams", "1") as streams:
        assert streams.ready["held"] == 1
        seen = streams.seen(lambda seen: bool(seen["open"] == 0))
        assert (seen["ended"], seen["broken"]) == (ended, broken)


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        pytest.param(b"", 0, id="closed"),
        pytest.param(b"nonsense\r\n\r\n", -1, id="no HTTP"),
        pytest.param(b"HTTP/1.1 429 Busy\r\nContent-Length: 0\r\n\r\n", 429, id="refused"),
        pytest.param(HEAD.replace(b"200", b"500") + chunked(event()), 500, id="an error that streams"),
        pytest.param(HEAD + chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n", 200, id="no event with a time"),
    ],
)
def test_a_stream_without_a_first_event_was_refused(load: Load, reply: bytes, status: int) -> None:
    def serve(connection: socket.socket) -> None:
        if read_request(connection):
            connection.sendall(reply)

    with serving(serve) as port, holding(load, port, "--streams", "2") as streams:
        assert (streams.ready["held"], streams.ready["refused"]) == (0, 2)
        assert streams.quit() == f"load: first stream that was refused: status {status} (0: no reply)\n"


def test_streams_that_stay_silent_are_given_up(load: Load) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.recv(1)

    with (
        serving(serve) as port,
        holding(load, port, "--streams", "5", "--ramp", "2", "--patience", "0.2") as streams,
    ):
        assert (streams.ready["held"], streams.ready["refused"]) == (0, 5)
