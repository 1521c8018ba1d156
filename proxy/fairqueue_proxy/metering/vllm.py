"""The meter for vLLM's chat and completions routes.

vLLM puts its `system_fingerprint` into the last chunk of a stream: the usage chunk, or without one the last chunk that
ends a choice. So where the usage chunk is there only because the proxy asked, the chunk that ends a choice is held
back until the next event, which usually came with it, shows where the fingerprint belongs.
"""

from msgspec import Raw

from fairqueue_proxy.metering.chunks import Chunk
from fairqueue_proxy.metering.live_usage import LiveUsageMeter
from fairqueue_proxy.metering.meter import with_field
from fairqueue_proxy.metering.sse import data_span

_FINGERPRINT = "system_fingerprint"


class VllmMeter(LiveUsageMeter):
    """Options as those of `LiveUsageMeter`."""

    _held = b""
    _ends_choice = False
    _fingerprint = Raw()

    def event(self, event: bytes) -> bytes:
        self._ends_choice, self._fingerprint = False, Raw()
        passed_on = super().event(event)
        released = self.rest()
        span = data_span(released) if released and len(self._fingerprint) else None
        if span is not None:
            last_chunk = with_field(released[span[0] : span[1]], _FINGERPRINT, self._fingerprint)
            released = released[: span[0]] + last_chunk + released[span[1] :]
        if self._ends_choice:
            self._held = passed_on
            return released
        return released + passed_on

    def rest(self) -> bytes:
        released, self._held = self._held, b""
        return released

    def _count(self, chunk: Chunk) -> None:
        super()._count(chunk)
        has_its_own = len(chunk.system_fingerprint) > 0
        self._ends_choice = self._strip_usage and not has_its_own and _ends_a_choice(chunk)

    def _settle(self, chunk: Chunk) -> None:
        super()._settle(chunk)
        if self._strip_usage:
            self._fingerprint = chunk.system_fingerprint


def _ends_a_choice(chunk: Chunk) -> bool:
    return any(choice.finish_reason is not None for choice in chunk.choices or ())
