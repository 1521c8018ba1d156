"""The compiled tools of the data-plane bench: short requests, and both as commands."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from compiled_tools import PATIENCE_SECONDS, Load, Upstream, child, chunked, holding, read_request, serving

TOOLS = Path(__file__).resolve().parents[2] / "bench" / "data_plane_tools"
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_exactly_as_many_short_requests_as_asked_for(upstream: Upstream, load: Load) -> None:
    done = load.short(upstream.port, "--connections", "7", "--count", "1000")
    assert (done["requests"], done["failures"]) == (1000, 0)
    assert upstream.stats()["requests"] == 1000
    latency = done["latency_us"]
    order = [latency[name] for name in ("p50", "p90", "p99", "p999", "max")]
    assert order == sorted(order)
    assert 0 < latency["mean"] <= latency["max"] < done["seconds"] * 1e6


def test_short_requests_for_some_time_without_the_warm_up(upstream: Upstream, load: Load) -> None:
    done = load.short(upstream.port, "--connections", "3", "--seconds", "0.3", "--warm-up", "0.3")
    assert done["failures"] == 0
    assert done["seconds"] >= 0.3
    # At most one on each connection was never answered.
    assert 0 < done["requests"] < upstream.stats()["requests"]


def test_short_requests_at_a_rate_are_no_more_than_that(upstream: Upstream, load: Load) -> None:
    done = load.short(upstream.port, "--connections", "5", "--seconds", "1", "--rate", "50")
    assert 0 < done["requests"] <= 51
    assert upstream.stats()["requests"] <= 51


def test_at_a_rate_a_request_that_had_to_wait_has_waited_since_it_was_due(load: Load) -> None:
    """One connection and replies that take 0.1 s, at 50 a second: the tenth is 0.8 s late."""

    def serve(connection: socket.socket) -> None:
        while read_request(connection):
            time.sleep(0.1)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with serving(serve) as port:
        done = load.short(port, "--connections", "1", "--count", "10", "--rate", "50")
    assert done["requests"] == 10
    assert done["latency_us"]["max"] > 0.8e6


GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"


@pytest.mark.parametrize(
    ("reply", "requests"),
    [
        pytest.param(GOOD, 4, id="good"),
        pytest.param(GOOD.replace(b"OK\r\n", b"OK\r\nconnection: CLOSE\r\n"), 4, id="closed in order"),
        pytest.param(HEAD + chunked(b"abc") + b"0\r\n\r\n", 4, id="chunked"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\nabc", 4, id="to the end"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + GOOD, 4, id="a head of before"),
        pytest.param(GOOD.replace(b"200", b"503"), 0, id="refused"),
        pytest.param(b"HTTP/1.1 204 Empty\r\n\r\n", 0, id="nothing"),
        pytest.param(GOOD[:-1], 0, id="cut short"),
        pytest.param(GOOD + b"d", 0, id="too long"),
        pytest.param(HEAD + b"x", 0, id="no chunk"),
        pytest.param(b"HTTP/1.1\r\n\r\n", 0, id="no status"),
        pytest.param(b"", 0, id="closed"),
    ],
)
def test_each_short_request_succeeds_or_fails(load: Load, reply: bytes, requests: int) -> None:
    """Every connection is closed after its reply, as servers do with those that are kept for long."""

    def serve(connection: socket.socket) -> None:
        if read_request(connection):
            connection.sendall(reply)

    with serving(serve) as port:
        done = load.short(port, "--connections", "1", "--count", "4")
    if requests:
        # One that is sent while the server closes is lost, as it is for all clients.
        assert done["requests"] + done["failures"] == 4
        assert done["requests"] >= 2
    else:
        assert (done["requests"], done["failures"], done["latency_us"]) == (0, 4, None)


def test_without_a_server_it_says_so(load: Load) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    done = load.run(port, "--short", "--connections", "3", "--seconds", "20")
    assert done.returncode == 1
    assert (done.stdout, done.stderr) == ("", f"load: can't connect to port {port}: Connection refused\n")


def test_without_replies_it_gives_up(load: Load) -> None:
    def serve(connection: socket.socket) -> None:
        while connection.recv(65536):
            pass

    with serving(serve) as port:
        done = load.run(port, "--short", "--connections", "2", "--count", "5", "--patience", "0.2")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "load: no reply for 0.2 s\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_load_at_once(upstream: Upstream, load: Load, number: signal.Signals) -> None:
    with holding(load, upstream.port, "--streams", "2") as streams:
        streams.process.send_signal(number)
        assert streams.process.wait(PATIENCE_SECONDS) == 128 + number
    command = load.command(upstream.port, "--short", "--connections", "1", "--seconds", "60", path="/generate")
    with child(*command) as process:
        upstream.wait_for(streams=0)
        until = time.monotonic() + PATIENCE_SECONDS
        while upstream.stats()["requests"] < 3:
            assert time.monotonic() < until
        process.send_signal(number)
        assert process.wait(PATIENCE_SECONDS) == 128 + number


@pytest.mark.parametrize("name", ["upstream", "load"])
def test_help_has_an_example(tools: Path, name: str) -> None:
    done = subprocess.run([tools / name, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: ")
    assert "example" in done.stdout
    assert done.stderr == ""


BODY = str(TOOLS / "load.c")
LOAD = f"load --port 1 --path /a --body {BODY}"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("upstream", "--port and --control are needed"),
        ("upstream --port 1", "--port and --control are needed"),
        ("upstream --port x --control 0", "--port: x is not a whole number from 0 to 65535"),
        ("upstream --port 0 --control 65536", "--control: 65536 is not"),
        ("upstream --port 0 --control 0 --event-bytes 0", "--event-bytes: 0 is not"),
        ("upstream --port 0 --control 0 more", "what is more?"),
        ("upstream --nothing", "nothing"),
        ("load", "--port, --path and --body are needed"),
        ("load --port 0", "--port: 0 is not a whole number from 1 to 65535"),
        ("load --port 1 --path a --body b --streams 1", "--path: a is not a path"),
        ("load --port 1 --path /a --body none.json --streams 1", "--body: can't read none.json: No such file"),
        (LOAD, "--streams is needed, or --short"),
        (f"{LOAD} --streams", "streams"),
        (f"{LOAD} --streams 900000", "900000 connections need as many descriptors"),
        (f"{LOAD} --streams 1 --headers none.txt", "--headers: can't read none.txt: No such file"),
        (f"{LOAD} --streams 1 --headers {os.devnull}", f"--headers: {os.devnull} has no header"),
        (f"{LOAD} --streams 1 --headers {TOOLS / 'latency.h'}", "--headers: not a header: #ifndef LATENCY_H"),
        (f"{LOAD} --streams 1 --count 1", "go with --short"),
        (f"{LOAD} --short --streams 1", "don't go with --short"),
        (f"{LOAD} --short --connections 1", "--short needs --connections, and --seconds or --count"),
        (f"{LOAD} --short --connections 1 --seconds 1 --count 1", "--short needs --connections"),
        (f"{LOAD} --short --connections 1 --count 1 --warm-up 1", "--warm-up goes with --seconds"),
        (f"{LOAD} --short --connections 1 --seconds nan", "--seconds: nan is not a number"),
    ],
)
def test_bad_arguments_are_told(tools: Path, command: str, said: str) -> None:
    name, *arguments = command.split()
    done = subprocess.run([tools / name, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.startswith(f"{name}: ") or str(tools) in done.stderr
    assert "try --help" in done.stderr


def test_a_port_that_is_taken_is_told(tools: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [tools / "upstream", "--port", port, "--control", "0"], capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == f"upstream: can't listen at port {port}: Address already in use\n"
