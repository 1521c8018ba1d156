"""llama.cpp's server: its routes and how it reads a request.

It reads booleans strictly and cuts fractions of numbers off. Slots, adapters, stored caches and streams that outlive
their clients are shared by everybody who reaches the server, so their routes are refused.
"""

import math
from collections.abc import Callable
from typing import Final

from fairqueue_proxy.engines.call import Api, Call, Route
from fairqueue_proxy.engines.engine import STRIPPED_HEADERS, RouteTable
from fairqueue_proxy.engines.fields import (
    MAX_TOKENS,
    TRUE,
    Fields,
    copies,
    decode_body,
    encode,
    is_null,
    is_true,
    number,
)
from fairqueue_proxy.engines.prompts import size_of_chat, size_of_prompt
from fairqueue_proxy.metering.llamacpp import LlamaNativeMeter, LlamaOpenAiMeter
from fairqueue_proxy.metering.meter import Meter

_ROUTES: Final = RouteTable(
    metered={
        "/completion": Api.LLAMA_COMPLETION,
        "/completions": Api.LLAMA_COMPLETION,
        "/v1/completions": Api.COMPLETIONS,
        "/chat/completions": Api.CHAT,
        "/v1/chat/completions": Api.CHAT,
    },
    free=frozenset({"/health", "/v1/health", "/metrics", "/models", "/v1/models", "/props"}),
)


class LlamaCpp:
    """The engine kind `LlamaCpp`."""

    kind = "LlamaCpp"
    stripped_headers = STRIPPED_HEADERS
    cancels_plain = False

    def route(self, method: str, path: str) -> Route:
        return _ROUTES.match(method, path)

    def parse(self, route: Route, body: bytes) -> Call:
        if route.api not in (Api.CHAT, Api.COMPLETIONS, Api.LLAMA_COMPLETION):
            raise ValueError(f"not a metered route of llama.cpp: {route}")
        fields = decode_body(body)
        stream = is_true(fields.get("stream"))
        size = size_of_chat(fields) if route.api is Api.CHAT else size_of_prompt(fields.get("prompt"))
        samples = copies([fields.get("n")])
        max_tokens = _output_limit(fields)
        is_native = route.api is Api.LLAMA_COMPLETION
        strip_timings = stream and not is_native and _ask_timings(fields)

        def openai_meter() -> Meter:
            return LlamaOpenAiMeter(
                prompts=size.prompts, copies=samples, max_tokens=max_tokens, strip_timings=strip_timings
            )

        def native_meter() -> Meter:
            return LlamaNativeMeter(size.prompts * samples)

        make_meter: Callable[[], Meter] = native_meter if is_native else openai_meter
        return Call(
            api=route.api,
            stream=stream,
            body=encode(fields),
            prompt_bytes=size.text_bytes * samples,
            prompt_tokens=size.tokens * samples if size.tokens is not None else None,
            sequences=size.prompts * samples,
            max_tokens=max_tokens,
            make_meter=make_meter,
            media_parts=size.media_parts * samples,
        )


def _ask_timings(fields: Fields) -> bool:
    asked = fields.get("timings_per_token")
    if asked is not None and bytes(asked) not in (b"false", b"null"):
        return False
    fields["timings_per_token"] = TRUE
    return True


def _output_limit(fields: Fields) -> int | None:
    preferred = fields.get("max_completion_tokens")
    if not is_null(preferred):
        return _limit(number(preferred))
    told = [raw for raw in (fields.get("max_tokens"), fields.get("n_predict")) if not is_null(raw)]
    limits = [_limit(number(raw)) for raw in told]
    # Which of the two it prefers depends on the route; the larger one holds either way.
    return max((limit for limit in limits if limit is not None), default=None) if None not in limits else None


def _limit(value: float | None) -> int | None:
    """Its own reading: below 0 no limit, 0 makes one token all the same, fractions are cut off."""
    if value is None or math.isnan(value) or value < 0:
        return None
    return int(max(1, min(value, MAX_TOKENS)))
