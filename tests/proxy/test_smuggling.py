"""No request hides in another one: what is framed in two ways is refused and its connection closed, and every request
of a connection stands by its own key."""

import pytest

from proxy.conftest import StartProxy
from proxy.crowd import generate
from proxy.raw_client import RawClient, request
from proxy.scripted_engine import ScriptedEngine, json_reply
from proxy_stack import key_of

GENERATED = json_reply({"generated_text": "x"})
BODY = b'{"inputs":"x"}'
KEY = f"Authorization: Bearer {key_of('alice')}\r\n".encode()
LENGTH = b"Content-Length: 14\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
ONE_CHUNK = b"e\r\n" + BODY + b"\r\n0\r\n\r\n"
SECOND = b"POST /generate HTTP/1.1\r\nHost: proxy\r\n" + KEY + LENGTH + b"\r\n" + BODY


def post(headers: bytes, body: bytes = BODY, *, line: bytes = b"POST /generate HTTP/1.1") -> bytes:
    """Alice's request, with these headers instead of those that frame it."""
    return line + b"\r\nHost: proxy\r\n" + KEY + headers + b"\r\n" + body


AMBIGUOUS = {
    "length-and-chunks": post(LENGTH + CHUNKED, b"0\r\n\r\n" + SECOND),
    "chunks-and-length": post(CHUNKED + LENGTH, b"0\r\n\r\n" + SECOND),
    "two-lengths": post(LENGTH + b"Content-Length: 0\r\n"),
    "the-same-length-twice": post(LENGTH + LENGTH),
    "a-list-of-lengths": post(b"Content-Length: 14, 14\r\n"),
    "a-signed-length": post(b"Content-Length: +14\r\n"),
    "a-hexadecimal-length": post(b"Content-Length: 0xe\r\n"),
    "a-length-of-blanks": post(b"Content-Length: 1 4\r\n"),
    "another-coding": post(b"Transfer-Encoding: xchunked\r\n", ONE_CHUNK),
    "chunked-is-not-the-last": post(b"Transfer-Encoding: chunked, identity\r\n", ONE_CHUNK),
    "a-coding-before-chunked": post(b"Transfer-Encoding: gzip, chunked\r\n", ONE_CHUNK),
    "two-codings": post(b"Transfer-Encoding: identity\r\n" + CHUNKED, ONE_CHUNK),
    "chunked-twice": post(CHUNKED + CHUNKED, ONE_CHUNK),
    "a-vertical-tab": post(b"Transfer-Encoding:\x0bchunked\r\n", ONE_CHUNK),
    "a-blank-before-the-colon": post(b"Transfer-Encoding : chunked\r\n", ONE_CHUNK),
    "a-blank-before-the-lengths-colon": post(b"Content-Length : 0\r\n" + LENGTH),
    "a-folded-header": post(LENGTH + b"X-A: b\r\n c: d\r\n"),
    "a-coding-in-a-fold": post(LENGTH + b"X-A: b\r\n\tTransfer-Encoding: chunked\r\n"),
    "a-key-in-a-fold": post(LENGTH).replace(b"Authorization: ", b"Authorization:\r\n "),
    "bare-line-feeds": post(LENGTH).replace(b"\r\n", b"\n"),
    "one-bare-line-feed": post(LENGTH + b"X-A: b\nX-B: c\r\n"),
    "a-bare-carriage-return": post(LENGTH + b"X-A: b\rX-B: c\r\n"),
    "a-zero-byte": post(LENGTH + b"X-A: b\0c\r\n"),
    "a-line-feed-after-an-extension": post(CHUNKED, b"e;a\n" + BODY + b"\r\n0\r\n\r\n"),
    "a-carriage-return-in-an-extension": post(CHUNKED, b"e;a\rb\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a-quote-left-open": post(CHUNKED, b'e;a="\r\n' + BODY + b"\r\n0\r\n\r\n"),
    "line-feeds-around-chunks": post(CHUNKED, b"e\n" + BODY + b"\n0\n\n"),
    "a-line-feed-after-a-chunk": post(CHUNKED, b"e\r\n" + BODY + b"\n0\r\n\r\n"),
    "a-negative-chunk": post(CHUNKED, b"-e\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a-prefixed-chunk": post(CHUNKED, b"0xe\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a-blank-before-a-chunk": post(CHUNKED, b" e\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a-chunk-beyond-all-numbers": post(CHUNKED, b"1000000000000000e\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "more-than-the-chunk-says": post(CHUNKED, b"3\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a-length-in-the-trailer": post(CHUNKED, ONE_CHUNK[:-2] + b"Content-Length: 3\r\n\r\n"),
    "two-hosts": post(LENGTH + b"Host: other\r\n"),
    "no-host": post(LENGTH).replace(b"Host: proxy\r\n", b""),
    "a-blank-in-the-target": post(LENGTH, line=b"POST /generate?x= y HTTP/1.1"),
    "a-zero-byte-in-the-target": post(LENGTH, line=b"POST /generate?x=\0 HTTP/1.1"),
    "bytes-in-the-target": post(LENGTH, line=b"POST /generate?x=\xff HTTP/1.1"),
    "a-euro-in-the-target": post(LENGTH, line="POST /generate?x=\u20ac HTTP/1.1".encode()),
    "a-version-to-come": post(LENGTH, line=b"POST /generate HTTP/1.2"),
    "a-method-in-lower-case": post(LENGTH, line=b"post /generate HTTP/1.1"),
}


@pytest.mark.parametrize("data", AMBIGUOUS.values(), ids=AMBIGUOUS)
async def test_what_can_be_read_in_two_ways_is_read_in_none(
    start_proxy: StartProxy, scripted: ScriptedEngine, data: bytes
) -> None:
    stack = await start_proxy(scripted.port)
    async with RawClient(stack.data) as client:
        # Whatever may follow is not read any more.
        reply = await client.ask(data + SECOND)
        assert reply.status == 400
        assert await client.rest() == b""
    assert scripted.unanswered == 0
    assert 'outcome="bad_request"} 1\n' in await stack.metrics()


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        pytest.param(LENGTH, BODY, id="plain"),
        pytest.param(CHUNKED, ONE_CHUNK, id="chunks"),
        pytest.param(b"transfer-ENCODING:Chunked\r\n", ONE_CHUNK, id="in-odd-case"),
        pytest.param(CHUNKED, b"0000e;a=b;c\r\n" + BODY + b"\r\n0;d\r\n\r\n", id="extensions"),
        pytest.param(CHUNKED, b'e;a="0;b"\r\n' + BODY + b"\r\n0\r\n\r\n", id="a-quoted-extension"),
        pytest.param(CHUNKED, b"3\r\n" + BODY[:3] + b"\r\nB\r\n" + BODY[3:] + b"\r\n0\r\n\r\n", id="two-chunks"),
        pytest.param(
            CHUNKED,
            ONE_CHUNK[:-2] + f"Authorization: Bearer {key_of('bob')}\r\nX-Vllm-Priority: 0\r\n\r\n".encode(),
            id="a-trailer",
        ),
    ],
)
async def test_a_body_goes_on_in_a_frame_of_ours_and_without_what_came_after_it(
    start_proxy: StartProxy, scripted: ScriptedEngine, headers: bytes, body: bytes
) -> None:
    stack = await start_proxy(scripted.port)
    async with RawClient(stack.data) as client:
        client.send(post(headers, body))
        play = await scripted.play()
        play.answer(GENERATED)
        reply = await client.reply()
        assert (reply.status, reply.headers["x-fairqueue-tenant"]) == (200, "alice")
        # The connection is where it should be: the next request is the next one.
        client.send(request("/generate", generate(), tenant="bob"))
        (await scripted.play()).answer(GENERATED)
        assert (await client.reply()).headers["x-fairqueue-tenant"] == "bob"
    assert (play.body, play.headers["content-length"]) == (BODY, "14")
    assert not {"transfer-encoding", "trailer", "x-vllm-priority", "authorization"} & play.headers.keys()


async def test_each_of_several_requests_at_once_is_judged_by_its_own_key(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await start_proxy(scripted.port)
    tenants = ["alice", "bob", None, "nobody", "alice"]
    replies = []
    async with RawClient(stack.data) as client:
        client.send(b"".join(request("/generate", generate(), tenant=tenant) for tenant in tenants))
        for tenant in tenants:
            if tenant in ("alice", "bob"):
                (await scripted.play()).answer(GENERATED)
            replies.append(await client.reply())
    assert [(reply.status, reply.headers.get("x-fairqueue-tenant")) for reply in replies] == [
        (200, "alice"),
        (200, "bob"),
        (401, None),
        (401, None),
        (200, "alice"),
    ]
    assert scripted.unanswered == 0


@pytest.mark.parametrize("tenant", [None, "nobody"])
async def test_a_request_behind_one_without_a_body_is_a_request_of_its_own(
    start_proxy: StartProxy, scripted: ScriptedEngine, tenant: str | None
) -> None:
    stack = await start_proxy(scripted.port)
    async with RawClient(stack.data) as client:
        second = request("/generate", generate(), tenant=tenant)
        client.send(request("/health", method="GET", tenant="alice") + second)
        assert [(await client.reply()).status for _ in range(2)] == [200, 401]
    assert scripted.unanswered == 0


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_a_request_in_the_body_of_a_free_route_is_a_body_and_stays_here(
    start_proxy: StartProxy, scripted: ScriptedEngine, method: str
) -> None:
    stack = await start_proxy(scripted.port)
    scripted.asked.clear()
    async with RawClient(stack.data) as client:
        client.send(request("/health", SECOND, method=method))
        assert (await client.head())[0] == 200
    mine = [head for head in scripted.asked if head.startswith(f"{method} /health ".encode())]
    assert [b"content-length" in head.lower() for head in mine] == [False] * len(mine)
    assert scripted.unanswered == 0


async def test_a_request_in_the_body_of_a_metered_route_is_text(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await start_proxy(scripted.port)
    async with RawClient(stack.data) as client:
        assert (await client.ask(post(b"Content-Length: %d\r\n" % len(SECOND), SECOND))).status == 400
    async with RawClient(stack.data) as client:
        client.send(request("/generate", generate(SECOND.decode()), tenant="bob"))
        play = await scripted.play()
        play.answer(GENERATED)
        assert (await client.reply()).status == 200
    assert play.json["inputs"] == SECOND.decode()
    assert int(play.headers["content-length"]) == len(play.body)
    assert scripted.unanswered == 0


async def test_a_refused_request_leaves_nothing_of_its_body_behind(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    """Its body is not read by us; it must not become the next request."""
    stack = await start_proxy(scripted.port)
    async with RawClient(stack.data) as client:
        client.send(request("/abort", SECOND, tenant="bob") + request("/generate", generate()))
        assert [(await client.reply()).status for _ in range(2)] == [403, 401]
    assert scripted.unanswered == 0
