"""The meter for routes of which nothing is known: it believes usage where it finds some, and counts events until then.

Replies may be anything, so what is not understood is not malformed here.
"""

import msgspec

from fairqueue_proxy.metering.meter import MALFORMED, ReplyMeter
from fairqueue_proxy.metering.token_usage import TokenUsage


class _Inner(msgspec.Struct):
    usage: TokenUsage | None = None


class _Reply(msgspec.Struct):
    usage: TokenUsage | None = None
    response: _Inner | None = None
    error: msgspec.Raw = msgspec.Raw()


_decode_reply = msgspec.json.Decoder(_Reply).decode


class OtherMeter(ReplyMeter):
    """Any reply of any shape, streamed or plain."""

    def _chunk(self, payload: bytes) -> bytes | None:
        reply = self._decoded(payload)
        if reply is not None and len(reply.error) and bytes(reply.error) != b"null":
            self._error_event(payload)
        elif reply is None or not self._settle(reply):
            self._tally.count(0)
        return None

    def _reply(self, body: bytes) -> bytes | None:
        reply = self._decoded(body)
        if reply is not None:
            self._settle(reply)
        return None

    def _settle(self, reply: _Reply) -> bool:
        """Whether the reply told the use of anything."""
        usage = reply.usage or (reply.response.usage if reply.response is not None else None)
        prompt, output = (usage.prompt(), usage.output()) if usage is not None else (None, None)
        if usage is None or prompt is None:
            return False
        self._tally.settle_whole(output or 0, prompt, usage.cached())
        return True

    @staticmethod
    def _decoded(payload: bytes) -> _Reply | None:
        try:
            return _decode_reply(payload)
        except MALFORMED:
            return None
