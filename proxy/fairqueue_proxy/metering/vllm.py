"""The meter for vLLM's chat and completions routes.

vLLM puts its `system_fingerprint` into the usage chunk at the end of a stream or, without one, into every chunk that
ends a choice. So where the usage chunk is there only because the proxy asked, chunks that end a choice are held back
until the next event, which usually came with them, shows whether and what the fingerprint is. A choice that ended while
others went on stays without: what would have been in its last chunk comes later.
"""

from typing import Final

from msgspec import Raw

from fairqueue_proxy.metering.chunks import Chunk
from fairqueue_proxy.metering.live_usage import LiveUsageMeter
from fairqueue_proxy.metering.meter import with_field
from fairqueue_proxy.metering.sse import data_span

_FINGERPRINT = "system_fingerprint"
_NONE: Final = Raw()

# Of a long list of prompts with one token each, every chunk ends a choice: the client is not to wait for all of them.
_MOST_HELD: Final = 8


class VllmMeter(LiveUsageMeter):
    """Options as those of `LiveUsageMeter`."""

    _ends_choice = False
    _fingerprint = _NONE

    def __init__(
        self, *, sequences: int = 1, copies: int = 1, strip_chunks: bool = False, strip_end: bool = False
    ) -> None:
        super().__init__(sequences=sequences, copies=copies, strip_chunks=strip_chunks, strip_end=strip_end)
        self._held: list[bytes] = []

    def event(self, event: bytes) -> bytes:
        self._ends_choice, self._fingerprint = False, _NONE
        passed_on = super().event(event)
        if self._ends_choice:
            self._held.append(passed_on)
            return self._held.pop(0) if len(self._held) > _MOST_HELD else b""
        if not self._held:
            return passed_on
        if len(self._fingerprint):
            self._held = [_with_fingerprint(each, self._fingerprint) for each in self._held]
        return self.rest() + passed_on

    def rest(self) -> bytes:
        released, self._held = b"".join(self._held), []
        return released

    def _count(self, chunk: Chunk) -> None:
        super()._count(chunk)
        if self._strip_usage:
            self._ends_choice = _ends_a_choice(chunk) and not len(chunk.system_fingerprint)

    def _settle(self, chunk: Chunk) -> None:
        super()._settle(chunk)
        if self._strip_usage:
            self._fingerprint = chunk.system_fingerprint


def _ends_a_choice(chunk: Chunk) -> bool:
    # A loop, as this is asked of every event.
    for choice in chunk.choices or ():  # noqa: SIM110
        if choice.finish_reason is not None:
            return True
    return False


def _with_fingerprint(event: bytes, fingerprint: Raw) -> bytes:
    span = data_span(event)
    if span is None:
        return event
    return event[: span[0]] + with_field(event[span[0] : span[1]], _FINGERPRINT, fingerprint) + event[span[1] :]
