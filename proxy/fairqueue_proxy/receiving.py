"""Takes in a request's body, bounded in size and time."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from fairqueue_proxy.heads import values
from fairqueue_proxy.outcome import Outcome, Refused

BODY_SECONDS = 60.0


class Receiving(Protocol):
    """Whose body comes; it can be refused meanwhile."""

    receiving: asyncio.Timeout | None
    refused: Refused | None


class Room:
    """The bodies that never come into the queue and so are not bounded there: how much of them may be held.

    When there is too much, the largest body gives way of whoever holds most: small ones always find room.
    """

    def __init__(self) -> None:
        self.most_bytes = 0
        self.held_bytes = 0
        self._bodies: set[Body] = set()

    @contextmanager
    def take(self, owner: str) -> Iterator["Body"]:
        """Room for one body of this owner, given back at the end."""
        body = Body(self, owner)
        self._bodies.add(body)
        try:
            yield body
        finally:
            self._bodies.discard(body)
            self.held_bytes -= body.held_bytes

    def make_way(self) -> None:
        """Refuses bodies until the rest is within the bound."""
        while self.held_bytes > self.most_bytes:
            by_owner: Counter[str] = Counter()
            for body in self._bodies:
                by_owner[body.owner] += body.held_bytes
            owner = max(by_owner, key=lambda name: (by_owner[name], name))
            largest = max((body for body in self._bodies if body.owner == owner), key=lambda body: body.held_bytes)
            self.held_bytes -= largest.held_bytes
            largest.give_way()


@dataclass(slots=True, eq=False)
class Body:
    """One body in a `Room`."""

    room: Room
    owner: str
    held_bytes: int = 0
    receiving: asyncio.Timeout | None = None
    refused: Refused | None = None

    def count(self, size_bytes: int) -> None:
        """More of it has come.

        Raises:
            Refused: it had to give way.
        """
        if self.refused is None:
            self.held_bytes += size_bytes
            self.room.held_bytes += size_bytes
            self.room.make_way()
        if self.refused is not None:
            raise self.refused

    def give_way(self) -> None:
        """It is not to be held any longer."""
        self.held_bytes = 0
        self.refused = Refused(Outcome.QUEUE_FULL, "too much is being received: try again later")
        if self.receiving is not None and not self.receiving.expired():
            self.receiving.reschedule(0)


async def receive_body(
    request: web.BaseRequest,
    most_bytes: int,
    count: Callable[[int], None],
    *,
    whose: Receiving,
    read: bool = True,
) -> bytes:
    """The whole body. `count` is told of each piece, and before anything came too where it comes later; it may refuse.
    `whose` can be refused from outside meanwhile. `read`: it is for us to read, so compressed ones are refused.

    Raises:
        Refused: too large (before it is read, and before `100 Continue`), too slow, compressed, or broken.
    """
    length = request.content_length
    if length is not None and length > most_bytes:
        raise _too_large(most_bytes)
    _refuse_codings(request, content=read)
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    if request.content.is_eof():
        # A body of usual size comes with its head.
        return _at_once(request, most_bytes, count)
    count(0)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS) as timeout:
            whose.receiving = timeout
            while chunk := await request.content.readany():
                count(len(chunk))
                body += chunk
                if len(body) > most_bytes:
                    raise _too_large(most_bytes)
    except TimeoutError:
        if whose.refused is not None:
            raise whose.refused from None
        raise Refused(Outcome.BAD_REQUEST, "the body came too slowly", status=408) from None
    except web.RequestPayloadError as error:
        raise Refused(Outcome.BAD_REQUEST, f"the body is broken: {error}") from None
    finally:
        whose.receiving = None
    return bytes(body)


def _at_once(request: web.BaseRequest, most_bytes: int, count: Callable[[int], None]) -> bytes:
    """The whole body, which has come."""
    try:
        body = request.content.read_nowait()
    except web.RequestPayloadError as error:
        raise Refused(Outcome.BAD_REQUEST, f"the body is broken: {error}") from None
    count(len(body))
    if len(body) > most_bytes:
        raise _too_large(most_bytes)
    return body


def _too_large(most_bytes: int) -> Refused:
    return Refused(Outcome.TOO_LARGE, f"the body is larger than {most_bytes} bytes")


def _refuse_codings(request: web.BaseRequest, *, content: bool) -> None:
    """We look into bodies as they come: compressed ones can't be read."""
    if "Content-Encoding" not in request.headers and "Transfer-Encoding" not in request.headers:
        return
    codings = values(request.raw_headers, b"content-encoding")
    transfer = values(request.raw_headers, b"transfer-encoding")
    if content and [value.lower() for value in codings] not in ([], [b"identity"]):
        raise Refused(Outcome.BAD_REQUEST, "compressed bodies are not read: send plain JSON")
    if [value.strip().lower() for value in transfer] not in ([], [b"chunked"]):
        raise Refused(Outcome.BAD_REQUEST, "transfer codings other than chunked are not read: send plain JSON")
