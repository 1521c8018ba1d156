"""Takes in a request's body, bounded in size and time."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aiohttp import web

from fairqueue_proxy.heads import values
from fairqueue_proxy.job import Job
from fairqueue_proxy.outcome import Outcome, Refused

BODY_SECONDS = 60.0


@dataclass(slots=True)
class Room:
    """How much of bodies may be held at a time that never come into the queue and so are not bounded there."""

    most_bytes: int = 0
    held_bytes: int = 0

    @contextmanager
    def take(self) -> Iterator[Callable[[int], None]]:
        """Room for one body, to be told of each piece; given back at the end.

        Raises:
            Refused: all that may be held is.
        """
        own_bytes = 0

        def count(size_bytes: int) -> None:
            nonlocal own_bytes
            own_bytes += size_bytes
            self.held_bytes += size_bytes
            if self.held_bytes > self.most_bytes:
                raise Refused(Outcome.QUEUE_FULL, "too much is being received: try again later")

        try:
            yield count
        finally:
            self.held_bytes -= own_bytes


async def receive_body(
    request: web.BaseRequest,
    most_bytes: int,
    count: Callable[[int], None],
    *,
    job: Job | None = None,
    read: bool = True,
) -> bytes:
    """The whole body. `count` is told of each piece, before anything came too, and may refuse; `job` can be refused
    from outside meanwhile. `read`: it is for us to read, so compressed ones are refused.

    Raises:
        Refused: too large (before it is read, and before `100 Continue`), too slow, compressed, or broken.
    """
    too_large = Refused(Outcome.TOO_LARGE, f"the body is larger than {most_bytes} bytes")
    if request.content_length is not None and request.content_length > most_bytes:
        raise too_large
    _refuse_codings(request, content=read)
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    count(0)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS) as timeout:
            if job is not None:
                job.receiving = timeout
            while chunk := await request.content.readany():
                count(len(chunk))
                body += chunk
                if len(body) > most_bytes:
                    raise too_large
    except TimeoutError:
        if job is not None and job.refused is not None:
            raise job.refused from None
        raise Refused(Outcome.BAD_REQUEST, "the body came too slowly", status=408) from None
    except web.RequestPayloadError as error:
        raise Refused(Outcome.BAD_REQUEST, f"the body is broken: {error}") from None
    finally:
        if job is not None:
            job.receiving = None
    return bytes(body)


def _refuse_codings(request: web.BaseRequest, *, content: bool) -> None:
    """We look into bodies as they come: compressed ones can't be read."""
    codings = values(request.raw_headers, b"content-encoding")
    transfer = values(request.raw_headers, b"transfer-encoding")
    if content and [value.lower() for value in codings] not in ([], [b"identity"]):
        raise Refused(Outcome.BAD_REQUEST, "compressed bodies are not read: send plain JSON")
    if [value.strip().lower() for value in transfer] not in ([], [b"chunked"]):
        raise Refused(Outcome.BAD_REQUEST, "transfer codings other than chunked are not read: send plain JSON")
