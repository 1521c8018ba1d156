"""Meters for the routes of llama.cpp's server.

A chunk can carry several tokens or none, so chunks are not counted: with `timings_per_token` each chunk of the OpenAI
routes carries the running total of its choice (`timings.predicted_n`), the native route always does
(`tokens_predicted`). Both are exact.

What cannot be known: a plain reply of the OpenAI routes with `n` or several prompts reports usage and timings of its
first choice only. The others are then exact if they too ran into the same `max_tokens`, else estimated from their
length in bytes; `Usage.exact` and `Usage.final` say which. The prompts of such a list are not told at all.
"""

import msgspec

from fairqueue_proxy.metering.chunks import Choice, Chunk, Count, Timings, UsageField, decode_chunk, has_text
from fairqueue_proxy.metering.meter import ReplyMeter, UnexpectedShape, without_field, without_fields
from fairqueue_proxy.metering.reply_tail import object_in_tail


class _NativeEvent(msgspec.Struct):
    tokens_predicted: Count | None = None
    tokens_evaluated: Count = 0
    index: Count = 0
    stop: bool = False
    timings: Timings | None = None
    error: msgspec.Raw = msgspec.Raw()


_decode_native = msgspec.json.Decoder(_NativeEvent).decode
_decode_natives = msgspec.json.Decoder(list[_NativeEvent]).decode
_decode_timings = msgspec.json.Decoder(Timings).decode
_decode_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode


class LlamaOpenAiMeter(ReplyMeter):
    """`/v1/chat/completions`, `/v1/completions` and their other names.

    `copies` are the sequences per prompt (`n`). `strip_timings`: those of the running chunks are there only because the
    proxy asked; llama.cpp puts timings into the last chunk unasked. (Also into a chunk with the rest of the text just
    before it, where a stop string held text back; that chunk cannot be told from the others and loses them.)
    """

    def __init__(
        self, *, prompts: int = 1, copies: int = 1, max_tokens: int | None = None, strip_timings: bool = False
    ) -> None:
        super().__init__(prompts * copies)
        self._prompts = prompts
        self._copies = copies
        self._max_tokens = max_tokens
        self._strip_timings = strip_timings
        # Choices that have finished, whose usage comes in a later chunk without an index.
        self._finished: list[int] = []

    def _counts_in_tail(self, tail: bytes) -> tuple[int, int, int] | None:
        # It is of the first choice only.
        return super()._counts_in_tail(tail) if self._prompts * self._copies == 1 else None

    def _chunk(self, payload: bytes) -> bytes | None:
        chunk = decode_chunk(payload)
        if has_text(chunk.error):
            self._error_event(payload)
            return None
        if not chunk.choices:
            if chunk.usage is None:
                raise UnexpectedShape("neither a choice nor usage")
            self._settle(self._finished.pop(0) if self._finished else 0, chunk.usage)
            return None
        choice = chunk.choices[0]
        running = choice.finish_reason is None
        strip = self._strip_timings and running and chunk.timings is not None
        replacement = without_field(payload, "timings") if strip else None
        if running:
            self._count(choice, chunk.timings)
        else:
            self._finish(choice.index, chunk)
        return replacement

    def _count(self, choice: Choice, timings: Timings | None) -> None:
        if timings is not None:
            self.usage.exact = True
            self._tally.count_up_to(choice.index, timings.predicted_n)
            self._tally.tell_prompt(choice.index, timings.prompt_tokens(), timings.cache_n)
        elif choice.text_bytes():
            self._tally.count(choice.index)

    def _finish(self, index: int, chunk: Chunk) -> None:
        if chunk.timings is not None:
            self.usage.exact = True
            self._tally.settle(index, chunk.timings.predicted_n)
            self._tally.tell_prompt(index, chunk.timings.prompt_tokens(), chunk.timings.cache_n)
        elif chunk.usage is not None:
            self._settle(index, chunk.usage)
        else:
            self._finished.append(index)

    def _settle(self, index: int, usage: UsageField) -> None:
        self._tally.settle(index, usage.completion_tokens)
        self._tally.tell_prompt(index, usage.prompt_tokens, usage.cached_tokens())

    def _reply(self, body: bytes) -> bytes | None:
        reply = decode_chunk(body)
        if reply.usage is None or not reply.choices:
            raise UnexpectedShape("a plain reply without usage or choices")
        first, *others = reply.choices
        usage = reply.usage
        if not others:
            self._tally.settle_whole(usage.completion_tokens, usage.prompt_tokens, usage.cached_tokens())
            return None
        same_end = self._prompts == 1 and first.finish_reason == "length"
        exact = same_end and all(other.finish_reason == "length" for other in others)
        output = usage.completion_tokens + sum(self._tokens_like(first, usage, other, same_end) for other in others)
        self._tally.settle_whole(output, usage.prompt_tokens * self._copies, usage.cached_tokens() * self._copies)
        self.usage.exact = self.usage.final = exact
        if self._prompts > 1:
            self.usage.prompt_tokens, self.usage.cached_tokens = None, 0
        return None

    def _tokens_like(self, first: Choice, usage: UsageField, other: Choice, same_end: bool) -> int:
        if other.finish_reason == "length" and same_end:
            return usage.completion_tokens
        estimate = usage.completion_tokens * other.text_bytes() // max(1, first.text_bytes())
        if self._max_tokens is None:
            return max(1, estimate)
        return self._max_tokens if other.finish_reason == "length" else max(1, min(estimate, self._max_tokens))


class LlamaNativeMeter(ReplyMeter):
    """`/completion`, `/completions` and `/infill`: running totals in every event, an array of results for a list of
    prompts.

    `strip_fields`: those of a result (not of running events) that are there only because the proxy asked.
    """

    def __init__(self, sequences: int = 1, *, strip_fields: tuple[str, ...] = ()) -> None:
        super().__init__(sequences)
        self._sequences = sequences
        self._strip_fields = strip_fields

    def _counts_in_tail(self, tail: bytes) -> tuple[int, int, int] | None:
        timings = object_in_tail(tail, "timings", _decode_timings) if self._sequences == 1 else None
        return (timings.predicted_n, timings.prompt_tokens(), timings.cache_n) if timings is not None else None

    def _chunk(self, payload: bytes) -> bytes | None:
        event = _decode_native(payload)
        if has_text(event.error):
            self._error_event(payload)
            return None
        if event.tokens_predicted is None:
            raise UnexpectedShape("neither a count nor an error")
        replacement = without_fields(payload, self._strip_fields) if event.stop and self._strip_fields else None
        self.usage.exact = True
        self._tally.count_up_to(event.index, event.tokens_predicted)
        cached = event.timings.cache_n if event.timings is not None else 0
        self._tally.tell_prompt(event.index, event.tokens_evaluated, cached)
        if event.stop:
            self._tally.settle(event.index, event.tokens_predicted)
        return replacement

    def _reply(self, body: bytes) -> bytes | None:
        is_list = body.lstrip()[:1] == b"["
        results = _decode_natives(body) if is_list else [_decode_native(body)]
        if any(result.tokens_predicted is None for result in results):
            raise UnexpectedShape("a result without its count")
        replacement = self._without_fields(body, is_list) if self._strip_fields else None
        self._tally.settle_whole(
            sum(result.tokens_predicted or 0 for result in results),
            sum(result.tokens_evaluated for result in results),
            sum(result.timings.cache_n for result in results if result.timings is not None),
        )
        return replacement

    def _without_fields(self, body: bytes, is_list: bool) -> bytes:
        if not is_list:
            return without_fields(body, self._strip_fields)
        results = [msgspec.Raw(without_fields(bytes(result), self._strip_fields)) for result in _decode_raws(body)]
        return msgspec.json.encode(results)
