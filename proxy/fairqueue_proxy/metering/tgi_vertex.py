"""The meter for TGI's `/vertex`, which tells no counts: not in its body, not in its headers.

The tokens of each prediction are estimated from its length. A failure, overload too, is always the same 500 here.
"""

import msgspec

from fairqueue_proxy.metering.meter import ReplyMeter, UnexpectedShape

BYTES_PER_TOKEN = 4


class _Predictions(msgspec.Struct):
    predictions: list[str]


_decode = msgspec.json.Decoder(_Predictions).decode


class TgiVertexMeter(ReplyMeter):
    """`max_tokens`: the longest output that one of the instances can have."""

    def __init__(self, *, max_tokens: int | None = None) -> None:
        super().__init__()
        self._max_tokens = max_tokens

    def _chunk(self, payload: bytes) -> bytes | None:
        raise UnexpectedShape("this route does not stream")

    def _reply(self, body: bytes) -> bytes | None:
        for prediction in _decode(body).predictions:
            tokens = max(1, -(-len(prediction.encode(errors="replace")) // BYTES_PER_TOKEN))
            self._tally.count(0, tokens if self._max_tokens is None else min(tokens, self._max_tokens))
        return None
