"""The meter for any engine that speaks OpenAI's chat and completions routes and nothing more.

Chunks with text are counted as one token each, provisionally: such engines may put several tokens into a chunk, or
none. The usage chunk at the end settles it; an engine that reports usage with every chunk is counted by that.
"""

from fairqueue_proxy.metering.chunks import Chunk, decode_chunk, has_text
from fairqueue_proxy.metering.meter import ReplyMeter, UnexpectedShape, fields_of, without_field


class OpenAiMeter(ReplyMeter):
    """`/v1/chat/completions` and `/v1/completions`.

    OpenAI's usage counts a prompt once however often it is sampled, so it is taken `copies` times. `strip_usage`: usage
    is in the stream only because the proxy asked.
    """

    # Some engines send usage of zeros until the end: that is no count.
    _counts_from_zero = False

    def __init__(self, *, sequences: int = 1, copies: int = 1, strip_usage: bool = False) -> None:
        super().__init__(sequences)
        self._copies = copies
        self._strip_usage = strip_usage

    def _chunk(self, payload: bytes) -> bytes | None:
        chunk = decode_chunk(payload)
        if len(chunk.error) and has_text(chunk.error):
            self._error_event(payload)
            return None
        if chunk.choices:
            replacement = self._taken_out(payload, chunk)
            self._count(chunk)
            return replacement
        if chunk.usage is None:
            if chunk.choices is None:
                self._error_event(payload)
            return None
        self._settle(chunk)
        return b"" if self._strip_usage else None

    def _reply(self, body: bytes) -> bytes | None:
        reply = decode_chunk(body)
        if reply.usage is None:
            raise UnexpectedShape("a plain reply without usage")
        self._settle(reply)
        return None

    def _counts_in_tail(self, tail: bytes) -> tuple[int, int, int] | None:
        counts = super()._counts_in_tail(tail)
        return (counts[0], counts[1] * self._copies, counts[2] * self._copies) if counts is not None else None

    def _count(self, chunk: Chunk) -> None:
        usage = chunk.usage
        for choice in chunk.choices or ():
            if usage is not None and usage.prompt_tokens:
                self._tally.tell_prompt(choice.index, usage.prompt_tokens, usage.cached_tokens())
            if usage is not None and (usage.completion_tokens or self._counts_from_zero):
                self.usage.exact = True
                self._tally.count_up_to(choice.index, usage.completion_tokens)
                if choice.finish_reason is not None:
                    self._tally.settle(choice.index, usage.completion_tokens)
            elif choice.text_bytes():
                self._tally.count(choice.index)

    def _settle(self, chunk: Chunk) -> None:
        usage = chunk.usage
        if usage is not None:
            self._tally.settle_whole(
                usage.completion_tokens, usage.prompt_tokens * self._copies, usage.cached_tokens() * self._copies
            )

    def _taken_out(self, payload: bytes, chunk: Chunk) -> bytes | None:
        """The chunk without what only the proxy asked for; None if there is nothing of it."""
        # OpenAI's include_usage puts a null usage into every other chunk.
        if not self._strip_usage or chunk.usage is not None or b'"usage"' not in payload:
            return None
        if "usage" not in fields_of(payload):
            return None
        return without_field(payload, "usage")
