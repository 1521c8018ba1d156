"""The clients: a closed loop on connections that stay, or are opened anew when the server has closed them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from socket_bench.clients import Clients

REPLY = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
LAST = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}"
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
ERROR_EVENT = b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n11\r\ndata: {"error":1}\r\n0\r\n\r\n'
REQUEST = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


@asynccontextmanager
async def server(reply_to: Callable[[int], bytes | None]) -> AsyncIterator[tuple[int, list[int]]]:
    """Answers the n-th request with `reply_to(n)`, None: it hangs up. Also the numbers of requests by connection."""
    count = 0
    connections: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        index = len(connections)
        connections.append(0)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                count, connections[index] = count + 1, connections[index] + 1
                reply = reply_to(count)
                writer.write(reply or b"")
                if reply is None or b"connection: close" in reply:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        yield listener.sockets[0].getsockname()[1], connections


async def run(clients: Clients) -> None:
    async with asyncio.timeout(10):
        await clients.connect()
        clients.start()
        await clients.done()
    clients.stop()


def so_many(requests: int) -> Callable[[int], bytes | None]:
    left = [requests]

    def next_request(_client: int) -> bytes | None:
        left[0] -= 1
        return REQUEST if left[0] >= 0 else None

    return next_request


async def test_each_client_asks_again_on_its_connection_when_it_has_its_reply() -> None:
    async with server(lambda _: REPLY) as (port, connections):
        clients = Clients(port, 3, so_many(30))
        await run(clients)
    assert clients.replies == 30
    assert len(connections) == 3
    assert not clients.troubles


async def test_a_connection_that_is_closed_after_a_reply_is_opened_anew() -> None:
    async with server(lambda _: LAST) as (port, connections):
        clients = Clients(port, 2, so_many(8))
        await run(clients)
    assert clients.replies == 8
    assert sum(connections) == 8
    assert not clients.troubles


async def test_a_request_that_meets_a_closed_connection_is_sent_again() -> None:
    async with server(lambda number: None if number == 2 else REPLY) as (port, connections):
        clients = Clients(port, 1, so_many(4))
        await run(clients)
    assert clients.replies == 4
    assert connections[:2] == [2, 3]
    assert not clients.troubles


async def test_refusals_and_error_events_are_counted_and_not_taken_for_replies() -> None:
    replies = {1: REFUSAL, 2: ERROR_EVENT}
    async with server(lambda number: replies.get(number, REPLY)) as (port, _):
        clients = Clients(port, 1, so_many(3))
        await run(clients)
    assert clients.replies == 1
    assert clients.troubles == {"status 503": 1, "error event": 1}


async def test_a_reply_that_is_cut_off_is_counted() -> None:
    cut = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 100\r\n\r\n{"
    async with server(lambda number: cut if number == 1 else REPLY) as (port, _):
        clients = Clients(port, 1, so_many(2))
        await run(clients)
    assert clients.replies == 1
    assert clients.troubles == {"reply cut off": 1}
