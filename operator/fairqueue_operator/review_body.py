"""Reads the body of an admission request, within bounds: of one body, of its time, of all bodies together.

Anybody in the cluster may be able to reach the webhook's port. Memory is bounded by what has really come, so many
slow senders of little stand in nobody's way, and many of much are refused.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import web

# A hundred times what large pods are. As objects, the smallest things in JSON take a hundred times their bytes.
MAX_BODY_BYTES: Final = 1_048_576
MAX_ALL_BODIES_BYTES: Final = 16 * 1_048_576
BODY_SECONDS: Final = 5.0


class BodyRefused(Exception):
    """A body that is not read to its end; `status` is what to answer."""

    def __init__(self, status: int, what: str) -> None:
        super().__init__(what)
        self.status = status


class BodyRoom:
    """How many bytes of bodies are held at this moment."""

    def __init__(self, max_bytes: int = MAX_ALL_BODIES_BYTES, body_seconds: float = BODY_SECONDS) -> None:
        self._max_bytes = max_bytes
        self._body_seconds = body_seconds
        self.held_bytes = 0

    @contextmanager
    def place(self) -> Iterator["BodyPlace"]:
        """A place for one body. What it holds is free again at the end, however that comes."""
        place = BodyPlace()
        try:
            yield place
        finally:
            self.held_bytes -= place.held_bytes

    async def read(self, request: web.Request, place: "BodyPlace") -> bytes:
        """The whole body. Raises `BodyRefused`."""
        if (request.content_length or 0) > MAX_BODY_BYTES:
            raise _too_large()
        parts = []
        try:
            async with asyncio.timeout(self._body_seconds):
                async for chunk in request.content.iter_any():
                    self._take(place, len(chunk))
                    parts.append(chunk)
        except TimeoutError:
            raise BodyRefused(408, "the body did not come in time") from None
        except (web.RequestPayloadError, ConnectionError):
            raise BodyRefused(400, "the body ended too early or is badly framed") from None
        return b"".join(parts)

    def _take(self, place: "BodyPlace", size: int) -> None:
        if place.held_bytes + size > MAX_BODY_BYTES:
            raise _too_large()
        if self.held_bytes + size > self._max_bytes:
            raise BodyRefused(503, "too many admission requests at once")
        place.held_bytes += size
        self.held_bytes += size


class BodyPlace:
    """What one request holds of the room."""

    def __init__(self) -> None:
        self.held_bytes = 0


def _too_large() -> BodyRefused:
    return BodyRefused(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
