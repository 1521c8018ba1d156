"""Meters for SGLang's routes, by the source of version 0.5.23: nothing of it was recorded.

Chunks skip steps for a reader that lags, but each carries the running total of its sequence, so the count is exact.
"""

import msgspec

from fairqueue_proxy.metering.chunks import Chunk, Count, has_text
from fairqueue_proxy.metering.live_usage import LiveUsageMeter
from fairqueue_proxy.metering.meter import ReplyMeter, UnexpectedShape, with_null, without_field


class SglangMeter(LiveUsageMeter):
    """Chat and completions. `null_usage`: where no usage is asked for there is a null one in every chunk, as on the
    completions route; on the chat route only in chunks that the tool parser writes."""

    def __init__(
        self,
        *,
        sequences: int = 1,
        copies: int = 1,
        strip_chunks: bool = False,
        strip_end: bool = False,
        null_usage: bool = False,
    ) -> None:
        super().__init__(sequences=sequences, copies=copies, strip_chunks=strip_chunks, strip_end=strip_end)
        self._null_usage = null_usage

    def _without_usage(self, payload: bytes, chunk: Chunk) -> bytes:
        deltas = (choice.delta for choice in chunk.choices or ())
        # Only that parser's chunks name tool calls, if only to say null.
        by_parser = any(delta is not None and len(delta.tool_calls) for delta in deltas)
        return with_null(payload, "usage") if self._null_usage or by_parser else without_field(payload, "usage")


class _Meta(msgspec.Struct):
    prompt_tokens: Count
    completion_tokens: Count
    cached_tokens: Count = 0
    finish_reason: msgspec.Raw = msgspec.Raw()


class _NativeEvent(msgspec.Struct):
    meta_info: _Meta | None = None
    index: Count = 0
    error: msgspec.Raw = msgspec.Raw()


_decode_event = msgspec.json.Decoder(_NativeEvent).decode
_decode_events = msgspec.json.Decoder(list[_NativeEvent]).decode


class SglangNativeMeter(ReplyMeter):
    """`/generate`: running totals in every event, an array of results for several sequences."""

    def _chunk(self, payload: bytes) -> bytes | None:
        event = _decode_event(payload)
        if has_text(event.error):
            self._error_event(payload)
            return None
        meta = event.meta_info
        if meta is None:
            raise UnexpectedShape("neither a count nor an error")
        self.usage.exact = True
        self._tally.count_up_to(event.index, meta.completion_tokens)
        self._tally.tell_prompt(event.index, meta.prompt_tokens, meta.cached_tokens)
        if has_text(meta.finish_reason):
            self._tally.settle(event.index, meta.completion_tokens)
        return None

    def _reply(self, body: bytes) -> bytes | None:
        results = _decode_events(body) if body.lstrip()[:1] == b"[" else [_decode_event(body)]
        metas = [result.meta_info for result in results if result.meta_info is not None]
        if len(metas) < len(results):
            raise UnexpectedShape("a result without its count")
        self._tally.settle_whole(
            sum(meta.completion_tokens for meta in metas),
            sum(meta.prompt_tokens for meta in metas),
            sum(meta.cached_tokens for meta in metas),
        )
        return None
