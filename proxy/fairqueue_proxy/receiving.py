"""Takes in a request's body, bounded in size and time."""

import asyncio
from collections.abc import Callable

from aiohttp import web

from fairqueue_proxy.heads import values
from fairqueue_proxy.job import Job
from fairqueue_proxy.outcome import Outcome, Refused

BODY_SECONDS = 60.0


async def receive_body(
    request: web.BaseRequest, most_bytes: int, *, job: Job | None = None, count: Callable[[int], None] = lambda _: None
) -> bytes:
    """The whole body. `count` is told of each piece, before anything came too, and may refuse; `job` can be refused
    from outside meanwhile.

    Raises:
        Refused: too large (before it is read, and before `100 Continue`), too slow, compressed, or broken.
    """
    too_large = Refused(Outcome.TOO_LARGE, f"the body is larger than {most_bytes} bytes")
    if request.content_length is not None and request.content_length > most_bytes:
        raise too_large
    _refuse_codings(request)
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


def _refuse_codings(request: web.BaseRequest) -> None:
    """We look into bodies as they come: compressed ones can't be read."""
    content = values(request.raw_headers, b"content-encoding")
    transfer = values(request.raw_headers, b"transfer-encoding")
    if [value.lower() for value in content] not in ([], [b"identity"]):
        raise Refused(Outcome.BAD_REQUEST, "compressed bodies are not read: send plain JSON")
    if [value.strip().lower() for value in transfer] not in ([], [b"chunked"]):
        raise Refused(Outcome.BAD_REQUEST, "transfer codings other than chunked are not read: send plain JSON")
