"""The upstream of the data-plane bench over real sockets: its exact bytes, and what its control port makes it do."""

import json
import re
import socket
import time
from pathlib import Path

import pytest

from compiled_tools import PATIENCE_SECONDS, Connection, Upstream, chunked, connected, running_upstream

STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
TGI_EVENT = (
    rb'data:{"index":(\d+),"token":{"id":5,"text":" t(\d{19})(x*)","logprob":-0.1,"special":false},'
    rb'"generated_text":null,"details":null}\n\n'
)
OPENAI_EVENT = (
    rb'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":\[{"index":0,'
    rb'"delta":{"content":" t(\d{19})x*"},"logprobs":null,"finish_reason":null}\](,"usage":.*?})?}\n\n'
)
OPENAI_START = '{"id":"c1","object":"chat.completion.chunk","created":1,"model":"m",'


def test_a_tgi_stream_begins_at_once_with_head_and_one_event_in_a_chunk(client: Connection) -> None:
    before = time.monotonic_ns()
    client.post("/generate_stream?a=b", b'{"inputs":"x"}')
    assert client.take(len(STREAM_HEAD)) == STREAM_HEAD
    chunk = client.chunk()
    match = re.fullmatch(TGI_EVENT, chunk)
    assert match is not None
    assert len(chunk) == 170
    assert int(match[1]) == 1
    assert before <= int(match[2]) <= time.monotonic_ns()
    assert client.is_silent()


@pytest.mark.parametrize(("asked", "length"), [("1", 134), ("300", 300), ("70000", 70000)])
def test_an_event_is_as_long_as_asked_for_but_never_cut(tools: Path, asked: str, length: int) -> None:
    with running_upstream(tools, "--event-bytes", asked) as upstream, connected(upstream.port) as client:
        client.post("/generate_stream")
        client.take_to(b"\r\n\r\n")
        assert len(client.chunk()) == length


def test_finish_ends_a_tgi_stream_with_a_last_token_and_the_connection_stays(
    upstream: Upstream, client: Connection
) -> None:
    client.post("/generate_stream")
    client.take_to(b"\r\n\r\n")
    client.chunk()
    assert upstream.say("finish") == "ok"
    chunks = client.chunks_to_end()
    last = json.loads(chunks[0].removeprefix(b"data:"))
    assert len(chunks) == 1
    assert (last["index"], last["generated_text"]) == (2, "x")
    assert last["details"] == {"finish_reason": "length", "generated_tokens": 2, "seed": None}
    assert upstream.stats()["streams"] == 0
    client.post("/generate_stream")
    assert client.take(len(STREAM_HEAD)) == STREAM_HEAD
    assert json.loads(client.chunk().removeprefix(b"data:"))["index"] == 1


@pytest.mark.parametrize("in_chunks", [False, True])
@pytest.mark.parametrize("at_end", [False, True])
def test_an_openai_stream_has_the_usage_that_was_asked_for(
    upstream: Upstream, client: Connection, *, in_chunks: bool, at_end: bool
) -> None:
    options = {"include_usage": at_end, "continuous_usage_stats": in_chunks}
    client.post("/v1/chat/completions", json.dumps({"stream": True, "stream_options": options}, indent=2).encode())
    assert client.take(len(STREAM_HEAD)) == STREAM_HEAD
    match = re.fullmatch(OPENAI_EVENT, client.chunk())
    assert match is not None
    usage = b',"usage":{"prompt_tokens":7,"total_tokens":8,"completion_tokens":1}'
    assert match[2] == (usage if in_chunks else None)
    assert upstream.say("finish") == "ok"
    finish = '"choices":[{"index":0,"delta":{"content":""},"logprobs":null,"finish_reason":"length"}]'
    wanted = [f"data: {OPENAI_START}{finish}{usage.decode() if in_chunks else ''}}}\n\n"]
    wanted += [f'data: {OPENAI_START}"choices":[]{usage.decode()}}}\n\n'] if at_end else []
    assert [chunk.decode() for chunk in client.chunks_to_end()] == [*wanted, "data: [DONE]\n\n"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{}", id="left out"),
        pytest.param(b'{"stream" : false, "x": true}', id="false"),
        pytest.param(json.dumps({"content": 'say "stream":true'}).encode(), id="in a text"),
        pytest.param(b'{"prompt":"stream","x":true}', id="as a value"),
    ],
)
def test_a_chat_that_is_no_stream_is_one_reply_with_its_usage(client: Connection, body: bytes) -> None:
    client.post("/v1/chat/completions", body)
    _, reply = client.reply()
    fields = json.loads(reply)
    assert len(reply) == 1000
    assert fields["usage"] == {"prompt_tokens": 7, "total_tokens": 12, "completion_tokens": 5}
    assert fields["choices"][0]["message"]["role"] == "assistant"


def test_generate_is_one_reply_with_its_counts_in_headers(client: Connection) -> None:
    for _ in range(3):
        client.post("/generate")
        head, body = client.reply()
        assert head == (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-prompt-tokens: 7\r\n"
            b"x-generated-tokens: 5\r\nContent-Length: 1000\r\n\r\n"
        )
        assert set(json.loads(body)) == {"generated_text"}


def test_what_an_engine_says_of_itself(upstream: Upstream, client: Connection) -> None:
    client.get("/health")
    assert client.reply()[1] == b""
    client.get("/info")
    assert json.loads(client.reply()[1])["max_concurrent_requests"] == 20000
    client.get("/v1/models")
    assert json.loads(client.reply()[1])["data"][0]["id"] == "m"
    with connected(upstream.port) as streaming:
        streaming.post("/generate_stream")
        streaming.take_to(b"\n\n")
        client.get("/metrics")
        lines = client.reply()[1].splitlines()
        assert {b"tgi_queue_size 0", b"tgi_batch_current_size 1", b"tgi_request_count 1"} <= set(lines)


@pytest.mark.parametrize(("method", "path"), [("GET", "/nowhere"), ("GET", "/generate"), ("POST", "/healthy")])
def test_no_other_route_is_there(upstream: Upstream, client: Connection, method: str, path: str) -> None:
    client.send(f"{method} {path} HTTP/1.1\r\n\r\n".encode())
    head, body = client.reply()
    assert head.startswith(b"HTTP/1.1 404 ")
    assert json.loads(body)["error"]["code"] == 404
    assert (upstream.stats()["requests"], upstream.stats()["others"]) == (0, 1)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_request_may_come_byte_by_byte(client: Connection, framing: str) -> None:
    body = b'{"stream":true}'
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
    request = head + b"content-LENGTH:  %d\r\n\r\n" % len(body) + body
    if framing == "chunked":
        parts = chunked(body[:4])[:-2] + b"\r\n00b;a=b\r\n" + body[4:] + b"\r\n0\r\ntrailer: 1\r\n\r\n"
        request = head + b"Transfer-Encoding: chunked\r\n\r\n" + parts
    for at in range(len(request)):
        client.send(request[at : at + 1])
    assert client.take(len(STREAM_HEAD)) == STREAM_HEAD


def test_requests_may_come_together_and_wait_for_a_stream_to_end(upstream: Upstream, client: Connection) -> None:
    get = b"GET /health HTTP/1.1\r\n\r\n"
    client.send(get + b"POST /generate_stream HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}" + get + get)
    client.reply()
    client.take_to(b"\r\n\r\n")
    client.chunk()
    assert client.is_silent()
    assert upstream.say("finish") == "ok"
    assert len(client.chunks_to_end()) == 1
    assert [client.reply()[1] for _ in range(2)] == [b"", b""]


def test_heads_and_bodies_may_be_long(client: Connection) -> None:
    client.post("/v1/chat/completions", b'{"x":"' + b"y" * 1_000_000 + b'"}', b"Long: " + b"z" * 200_000 + b"\r\n")
    assert len(client.reply()[1]) == 1000


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"nonsense\r\n\r\n", id="no request line"),
        pytest.param(b"GET / HTTP/1.1\r\nno colon\r\n\r\n", id="no header"),
        pytest.param(b"POST /generate HTTP/1.1\r\nContent-Length: 1x\r\n\r\n", id="no length"),
        pytest.param(b"POST /generate HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", id="too long"),
        pytest.param(b"POST /generate HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", id="no chunk"),
    ],
)
def test_what_is_no_request_is_refused_and_the_connection_closed(client: Connection, request_bytes: bytes) -> None:
    client.send(request_bytes)
    assert client.reply()[0].startswith(b"HTTP/1.1 400 ")
    assert client.at_end()


@pytest.mark.parametrize("request_line", [b"POST /generate HTTP/1.1\r\nConnection: Close", b"POST /generate HTTP/1.0"])
def test_a_connection_that_is_not_to_be_kept_is_closed_after_the_reply(client: Connection, request_line: bytes) -> None:
    client.send(request_line + b"\r\nContent-Length: 0\r\n\r\n")
    assert len(client.reply()[1]) == 1000
    assert client.at_end()


@pytest.mark.parametrize("mode", ["paced", "burst"])
def test_streams_run_at_the_rate_until_it_is_none(upstream: Upstream, mode: str) -> None:
    assert [upstream.say(f"mode {mode}"), upstream.say("rate 200")] == ["ok", "ok"]
    with connected(upstream.port) as one, connected(upstream.port) as other:
        for client in (one, other):
            client.post("/generate_stream")
            client.take_to(b"\r\n\r\n")
        numbers = [json.loads(client.chunk()[5:])["index"] for client in (one, other) for _ in range(20)]
        assert numbers == [*range(1, 21), *range(1, 21)]
        assert upstream.say("rate 0") == "ok"
        sent = upstream.stats()["events"]
        assert sent >= 40
        time.sleep(0.05)
        assert upstream.stats()["events"] == sent
        assert upstream.stats()["skipped"] == 0


def test_a_burst_is_all_streams_one_after_the_other(upstream: Upstream) -> None:
    clients = [Connection(upstream.port) for _ in range(5)]
    for client in clients:
        client.post("/generate_stream")
        client.take_to(b"\n\n\r\n")
    assert [upstream.say("mode burst"), upstream.say("rate 20")] == ["ok", "ok"]
    last = 0
    for _ in range(5):
        # Each stream has its event of a burst before any has one of the next.
        times = [int(json.loads(client.chunk()[5:])["token"]["text"][2:21]) for client in clients]
        assert min(times) > last
        last = max(times)
    for client in clients:
        client.socket.close()


@pytest.mark.parametrize(
    "line", ["rate", "rate x", "rate -1", "rate 1e-9", "rate nan", "rate 2 3", "mode", "mode slow", "halt", ""]
)
def test_a_line_that_is_not_understood_is_answered_with_those_that_are(upstream: Upstream, line: str) -> None:
    assert upstream.say(line).startswith("error: not 'rate R'")


def test_control_takes_lines_in_pieces_and_several_at_once(upstream: Upstream) -> None:
    upstream.control.send(b"rate")
    upstream.control.send(b" 1\r\nrate 2\nmo")
    upstream.control.send(b"de burst\n")
    assert [upstream.control.take_to(b"\n") for _ in range(3)] == [b"ok\n"] * 3


@pytest.mark.parametrize("how", [socket.SHUT_WR, socket.SHUT_RDWR])
def test_a_stream_that_is_closed_is_noticed_by_itself(upstream: Upstream, client: Connection, how: int) -> None:
    """Nothing is sent to it: only the socket's own end can tell."""
    client.post("/generate_stream")
    client.take_to(b"\n\n")
    upstream.wait_for(streams=1)
    client.socket.shutdown(how)
    upstream.wait_for(streams=0)


def test_one_that_leaves_does_not_disturb_the_others(upstream: Upstream) -> None:
    upstream.say("rate 500")
    clients = [Connection(upstream.port) for _ in range(20)]
    for client in clients:
        client.post("/generate_stream")
        client.take_to(b"\r\n\r\n")
    for client in clients[::2]:
        client.socket.close()
    upstream.wait_for(streams=10)
    for client in clients[1::2]:
        assert [json.loads(client.chunk()[5:])["index"] for _ in range(50)] == list(range(1, 51))
        client.socket.close()


@pytest.mark.parametrize("header", [b"", b"Connection: close\r\n"])
def test_a_full_socket_skips_events_and_the_rest_is_whole(tools: Path, header: bytes) -> None:
    with running_upstream(tools, "--event-bytes", "100000") as upstream, connected(upstream.port) as client:
        client.post("/generate_stream", headers=header)
        client.take_to(b"\r\n\r\n")
        upstream.say("rate 1000")
        until = time.monotonic() + PATIENCE_SECONDS
        while upstream.stats()["skipped"] < 10:
            assert time.monotonic() < until
        upstream.say("rate 0")
        sent = upstream.stats()["events"]
        upstream.say("finish")
        chunks = client.chunks_to_end()
        assert [json.loads(chunk[5:])["index"] for chunk in chunks] == list(range(1, sent + 2))
        assert {len(chunk) for chunk in chunks} == {100_000}
        assert client.at_end() if header else client.is_silent()


def test_bursts_begin_with_the_first_stream(upstream: Upstream, client: Connection) -> None:
    assert [upstream.say("mode burst"), upstream.say("rate 100")] == ["ok", "ok"]
    time.sleep(0.2)
    before = time.monotonic_ns()
    client.post("/generate_stream")
    client.take_to(b"\r\n\r\n")
    client.chunk()
    second = int(json.loads(client.chunk()[5:])["token"]["text"][2:21])
    assert second - before >= 10_000_000
