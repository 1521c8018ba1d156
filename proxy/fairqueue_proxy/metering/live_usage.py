"""The meter for engines that tell usage with every chunk of a chat or completions stream: exact as it passes.

The usage of a chunk is that of its own choice, so chunks may be merged, carry several tokens or none. What the client
did not ask for is taken out again: usage of the chunks, the usage chunk at the end, or both.
"""

from fairqueue_proxy.metering.chunks import Chunk
from fairqueue_proxy.metering.meter import without_field
from fairqueue_proxy.metering.openai import OpenAiMeter


class LiveUsageMeter(OpenAiMeter):
    """`strip_chunks`, `strip_end`: where usage is in the stream only because the proxy asked."""

    # The first chunk may be an echo of the prompt, or only name the role.
    _counts_from_zero = True

    def __init__(
        self, *, sequences: int = 1, copies: int = 1, strip_chunks: bool = False, strip_end: bool = False
    ) -> None:
        super().__init__(sequences=sequences, copies=copies, strip_usage=strip_end)
        self._strip_chunks = strip_chunks

    def _taken_out(self, payload: bytes, chunk: Chunk) -> bytes | None:
        if not self._strip_chunks or chunk.usage is None:
            return None
        return self._without_usage(payload, chunk)

    def _without_usage(self, payload: bytes, chunk: Chunk) -> bytes:
        """The chunk as the engine writes it for a client that asked for no usage."""
        return without_field(payload, "usage")
