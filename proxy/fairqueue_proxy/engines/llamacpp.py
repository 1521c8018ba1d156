"""llama.cpp's server: its routes and how it reads a request.

It reads booleans strictly and cuts fractions of numbers off. Slots, adapters, stored caches and streams that outlive
their clients are shared by everybody who reaches the server, so their routes are refused.
"""

import math
from typing import Final

from fairqueue_proxy.engines.call import Api, Call, Route
from fairqueue_proxy.engines.conversations import size_of_chat
from fairqueue_proxy.engines.embeddings_body import parse_embeddings
from fairqueue_proxy.engines.engine import STRIPPED_HEADERS, ListedRoutes, RouteTable
from fairqueue_proxy.engines.fields import MAX_TOKENS, TRUE, Fields, copies, decode_body, is_null, is_true, number
from fairqueue_proxy.engines.llamacpp_native import ask_counts, size_of_native
from fairqueue_proxy.engines.messages_body import parse_messages
from fairqueue_proxy.engines.prompts import size_of_prompt
from fairqueue_proxy.engines.responses_body import parse_responses
from fairqueue_proxy.engines.sized_call import sized_call
from fairqueue_proxy.metering.llamacpp import LlamaNativeMeter, LlamaOpenAiMeter
from fairqueue_proxy.metering.responses import ResponsesMeter

_ROUTES: Final = RouteTable(
    metered={
        "/completion": Api.LLAMA_COMPLETION,
        "/completions": Api.LLAMA_COMPLETION,
        "/infill": Api.LLAMA_COMPLETION,
        "/v1/completions": Api.COMPLETIONS,
        "/chat/completions": Api.CHAT,
        "/v1/chat/completions": Api.CHAT,
        "/responses": Api.RESPONSES,
        "/v1/responses": Api.RESPONSES,
        "/v1/messages": Api.MESSAGES,
        "/embedding": Api.EMBEDDINGS,
        "/embeddings": Api.EMBEDDINGS,
        "/v1/embeddings": Api.EMBEDDINGS,
        "/rerank": Api.EMBEDDINGS,
        "/reranking": Api.EMBEDDINGS,
        "/v1/rerank": Api.EMBEDDINGS,
        "/v1/reranking": Api.EMBEDDINGS,
    },
    identified=frozenset(
        {
            "/tokenize",
            "/detokenize",
            "/apply-template",
            "/v1/messages/count_tokens",
            "/v1/chat/completions/input_tokens",
            "/v1/responses/input_tokens",
        }
    ),
    free=frozenset({"/health", "/v1/health", "/metrics", "/models", "/v1/models", "/props"}),
)

_LIMITS: Final = ("max_tokens", "max_output_tokens", "n_predict")


class LlamaCpp(ListedRoutes):
    """The engine kind `LlamaCpp`."""

    kind = "LlamaCpp"
    routes = _ROUTES
    stripped_headers = STRIPPED_HEADERS
    shares_request_ids = False
    cancels_plain = False

    def parse(self, route: Route, body: bytes) -> Call:
        fields = decode_body(body)
        stream = is_true(fields.get("stream"))
        if route.api is Api.LLAMA_COMPLETION:
            return _parse_native(fields, stream=stream)
        if route.api is Api.CHAT or route.api is Api.COMPLETIONS:
            return _parse_openai(route.api, fields, stream=stream)
        if route.api is Api.RESPONSES:
            return _parse_responses(fields, stream=stream)
        if route.api is Api.MESSAGES:
            return parse_messages(fields, stream=stream)
        if route.api is Api.EMBEDDINGS:
            return parse_embeddings(fields)
        raise ValueError(f"not a metered route of llama.cpp: {route}")


def _parse_native(fields: Fields, *, stream: bool) -> Call:
    unasked = ask_counts(fields)
    size = size_of_native(fields)
    samples = _samples(fields)
    return sized_call(
        Api.LLAMA_COMPLETION,
        fields,
        size,
        stream=stream,
        samples=samples,
        max_tokens=_output_limit(fields),
        make_meter=lambda: LlamaNativeMeter(size.prompts * samples, strip_fields=unasked),
    )


def _parse_openai(api: Api, fields: Fields, *, stream: bool) -> Call:
    size = size_of_chat(fields) if api is Api.CHAT else size_of_prompt(fields.get("prompt"))
    samples = _samples(fields)
    max_tokens = _output_limit(fields)
    strip_timings = stream and _ask_timings(fields)
    return sized_call(
        api,
        fields,
        size,
        stream=stream,
        samples=samples,
        max_tokens=max_tokens,
        make_meter=lambda: LlamaOpenAiMeter(
            prompts=size.prompts, copies=samples, max_tokens=max_tokens, strip_timings=strip_timings
        ),
    )


def _parse_responses(fields: Fields, *, stream: bool) -> Call:
    strip_timings = stream and _ask_timings(fields)
    return parse_responses(
        fields,
        stores=False,
        stream=stream,
        max_tokens=_output_limit(fields),
        make_meter=lambda: ResponsesMeter(strip_timings=strip_timings),
    )


def _samples(fields: Fields) -> int:
    return copies([fields.get("n"), fields.get("n_cmpl")])


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
    told = [raw for raw in (fields.get(name) for name in _LIMITS) if not is_null(raw)]
    limits = [_limit(number(raw)) for raw in told]
    # Which of them it prefers depends on the route; the largest one holds either way.
    return max((limit for limit in limits if limit is not None), default=None) if None not in limits else None


def _limit(value: float | None) -> int | None:
    """Its own reading: below 0 no limit, 0 makes one token all the same, fractions are cut off."""
    if value is None or math.isnan(value) or value < 0:
        return None
    return int(max(1, min(value, MAX_TOKENS)))
