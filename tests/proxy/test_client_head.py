"""The head of a reply to a client, without sockets: what it says of the body, and what it adds to the engine's."""

import pytest

from fairqueue_proxy.client_head import ClientHead, client_head

NOW = 784111777.25
PLAIN = [(b"Content-Type", b"text/plain")]


def head(
    method: str = "POST",
    version: tuple[int, int] = (1, 1),
    status: int = 200,
    headers: list[tuple[bytes, bytes]] = PLAIN,
    *,
    body_bytes: int | None = 5,
    keep_alive: bool = True,
) -> ClientHead:
    return client_head(method, version, status, headers, body_bytes=body_bytes, keep_alive=keep_alive, now=NOW)


def fields(made: ClientHead) -> dict[str, str]:
    lines = made.raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")[1:]
    return dict(line.split(": ", 1) for line in lines)


def test_a_reply_of_known_size() -> None:
    assert head().raw == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n"
        b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: fairqueue\r\n\r\n"
    )
    assert (head().in_chunks, head().keeps_alive, head().has_body) == (False, True, True)


def test_a_reply_of_unknown_size_goes_in_chunks() -> None:
    made = head(body_bytes=None)
    assert (made.in_chunks, made.keeps_alive) == (True, True)
    assert fields(made)["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in fields(made)


def test_to_a_client_of_http_1_0_only_the_connections_end_tells_the_end_of_what_nobody_knew_the_size_of() -> None:
    made = head(version=(1, 0), body_bytes=None)
    assert made.raw.startswith(b"HTTP/1.0 200 OK\r\n")
    assert (made.in_chunks, made.keeps_alive) == (False, False)
    assert fields(made).keys() & {"Transfer-Encoding", "Content-Length"} == set()
    assert fields(made)["Connection"] == "close"


@pytest.mark.parametrize(
    ("version", "keep_alive", "connection"),
    [((1, 1), True, None), ((1, 1), False, "close"), ((1, 0), True, "keep-alive"), ((1, 0), False, "close")],
)
def test_whether_another_request_may_follow(version: tuple[int, int], keep_alive: bool, connection: str | None) -> None:
    made = head(version=version, keep_alive=keep_alive)
    assert made.keeps_alive == keep_alive
    assert fields(made).get("Connection") == connection


@pytest.mark.parametrize(
    ("method", "status", "body_bytes", "length"),
    [
        pytest.param("HEAD", 200, 5, "5", id="what GET would have told"),
        pytest.param("HEAD", 200, None, None, id="HEAD of unknown size"),
        pytest.param("GET", 304, 5, "5", id="304"),
        pytest.param("GET", 204, 0, None, id="204"),
        pytest.param("GET", 204, None, None, id="204 without a length"),
    ],
)
def test_replies_that_have_no_body_whatever_their_head_says(
    method: str, status: int, body_bytes: int | None, length: str | None
) -> None:
    made = head(method=method, status=status, headers=[], body_bytes=body_bytes)
    assert (made.in_chunks, made.keeps_alive, made.has_body) == (False, True, False)
    assert fields(made).get("Content-Length") == length
    assert fields(made).keys() & {"Transfer-Encoding", "Content-Type"} == set()


def test_what_the_engine_says_stands_byte_for_byte() -> None:
    told = [(b"server", b"engine"), (b"DATE", b"yesterday"), (b"X-Name", b"caf\xe9"), (b"Set-Cookie", b"a")]
    made = head(headers=[*told, (b"Set-Cookie", b"b")])
    assert b"X-Name: caf\xe9\r\n" in made.raw
    assert made.raw.count(b"Set-Cookie: ") == 2
    assert (fields(made)["server"], fields(made)["DATE"]) == ("engine", "yesterday")
    assert fields(made).keys() & {"Server", "Date"} == set()


def test_a_body_of_which_no_type_is_told_is_bytes() -> None:
    assert fields(head(headers=[]))["Content-Type"] == "application/octet-stream"
    assert "Content-Type" not in fields(head(headers=[], body_bytes=0))


def test_a_status_that_nobody_knows_has_no_reason() -> None:
    assert head(status=299).raw.startswith(b"HTTP/1.1 299 \r\n")
