"""The meter for routes that have input and no output: embeddings, scores, classes, reranking."""

import msgspec

from fairqueue_proxy.metering.meter import ReplyMeter, UnexpectedShape
from fairqueue_proxy.metering.reply_tail import object_in_tail
from fairqueue_proxy.metering.token_usage import TokenUsage, decode_usage


class _Reply(msgspec.Struct):
    usage: TokenUsage | None = None


_decode_reply = msgspec.json.Decoder(_Reply).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


class InputOnlyMeter(ReplyMeter):
    """Counts what `usage` tells. Replies without one are whole and leave the prompt to its estimate."""

    def _counts_in_tail(self, tail: bytes) -> tuple[int, int, int] | None:
        usage = object_in_tail(tail, "usage", decode_usage)
        prompt = usage.prompt() if usage is not None else None
        return (usage.output() or 0, prompt, usage.cached()) if usage is not None and prompt is not None else None

    def _chunk(self, payload: bytes) -> bytes | None:
        raise UnexpectedShape("these routes do not stream")

    def _reply(self, body: bytes) -> bytes | None:
        if body.lstrip()[:1] == b"[":
            # llama.cpp's own embeddings and SGLang's rankings tell no count.
            _decode_list(body)
            usage = None
        else:
            usage = _decode_reply(body).usage
        prompt = usage.prompt() if usage is not None else None
        if usage is not None and prompt is not None:
            self._tally.settle_whole(usage.output() or 0, prompt, usage.cached())
        self.usage.final = self.usage.exact = True
        return None
