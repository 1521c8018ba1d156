"""Any engine with OpenAI's routes: how it is read when nothing else is known about it.

Engines of this kind read leniently ("stream": "true" is a stream), so this adapter does too. A POST under `/v1/` that
is not listed may cost something, so it is metered, as far as its reply tells what it has used; what is known to change
an engine, or to leave work or data behind for everybody, is refused.
"""

from typing import Final

from fairqueue_proxy.engines.call import Access, Api, BadBody, Call, Route
from fairqueue_proxy.engines.conversations import size_of_chat
from fairqueue_proxy.engines.embeddings_body import parse_embeddings
from fairqueue_proxy.engines.engine import STRIPPED_HEADERS, ListedRoutes, RouteTable
from fairqueue_proxy.engines.fields import (
    Fields,
    copies,
    decode_body,
    encode,
    is_lax_true,
    is_null,
    model_name,
    output_limit,
)
from fairqueue_proxy.engines.messages_body import parse_messages
from fairqueue_proxy.engines.prompts import size_of_prompt
from fairqueue_proxy.engines.responses_body import parse_responses
from fairqueue_proxy.engines.sized_call import sized_call
from fairqueue_proxy.engines.usage_options import ask_at_end
from fairqueue_proxy.metering.openai import OpenAiMeter
from fairqueue_proxy.metering.other import OtherMeter

_ROUTES: Final = RouteTable(
    metered={
        "/v1/chat/completions": Api.CHAT,
        "/v1/completions": Api.COMPLETIONS,
        "/v1/responses": Api.RESPONSES,
        "/v1/messages": Api.MESSAGES,
        "/v1/embeddings": Api.EMBEDDINGS,
    },
    identified=frozenset({"/v1/messages/count_tokens", "/v1/responses/input_tokens"}),
    free=frozenset({"/health", "/v1/models", "/metrics", "/version", "/ping"}),
)

_PREFIX: Final = "/v1/"
_OTHER: Final = Route(Access.METERED, Api.OTHER)

# First parts of paths below /v1/ that act on the engine, on stored things or on running requests.
_NOT_BY_TENANTS: Final = frozenset(
    {
        "assistants",
        "batches",
        "containers",
        "conversations",
        "evals",
        "files",
        "fine_tuning",
        "load_lora_adapter",
        "models",
        "realtime",
        "responses",
        "stream",
        "streams",
        "threads",
        "unload_lora_adapter",
        "uploads",
        "vector_stores",
    }
)
_ACTS: Final = frozenset({"abort", "abort_requests", "cancel", "control"})
_LIMITS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")


class OpenAi(ListedRoutes):
    """The engine kind `OpenAI`."""

    kind = "OpenAI"
    routes = _ROUTES
    stripped_headers = STRIPPED_HEADERS
    shares_request_ids = False
    cancels_plain = True

    def route(self, method: str, path: str) -> Route:
        route = super().route(method, path)
        if route.access is Access.REFUSED and method == "POST" and path.startswith(_PREFIX):
            parts = path.removeprefix(_PREFIX).split("/")
            if parts[0] not in _NOT_BY_TENANTS and parts[-1] not in _ACTS and all(parts):
                return _OTHER
        return route

    def parse(self, route: Route, body: bytes) -> Call:
        if route.api is Api.OTHER:
            return _parse_other(body)
        if route.access is not Access.METERED:
            raise ValueError(f"not a metered route of an OpenAI-compatible engine: {route}")
        fields = decode_body(body)
        stream = is_lax_true(fields.get("stream"))
        if route.api is Api.RESPONSES:
            return parse_responses(fields, stores=True, stream=stream)
        if route.api is Api.MESSAGES:
            return parse_messages(fields, stream=stream)
        if route.api is Api.EMBEDDINGS:
            return parse_embeddings(fields)
        return _parse_generation(Api.CHAT if route.api is Api.CHAT else Api.COMPLETIONS, fields, stream=stream)


def _parse_generation(api: Api, fields: Fields, *, stream: bool) -> Call:
    strip_usage = stream and ask_at_end(fields)
    size = size_of_chat(fields) if api is Api.CHAT else size_of_prompt(fields.get("prompt"))
    samples = copies([fields.get("n")], lax=True)
    limit = fields.get("max_completion_tokens")
    return sized_call(
        api,
        fields,
        size,
        stream=stream,
        max_tokens=output_limit(fields.get("max_tokens") if is_null(limit) else limit, lax=True),
        # best_of includes n; engines that do not know it ignore it.
        samples=copies([fields.get("n"), fields.get("best_of")], lax=True),
        make_meter=lambda: OpenAiMeter(sequences=size.prompts * samples, copies=samples, strip_usage=strip_usage),
    )


def _parse_other(body: bytes) -> Call:
    """A request of unknown shape: measured by its bytes, or as one part of media if it is no JSON object."""
    try:
        fields = decode_body(body)
    except BadBody:
        if _looks_like_json(body):
            # Python's readers take more than JSON (a byte order mark, UTF-16, NaN): the engine might read it.
            raise
        return Call(
            api=Api.OTHER,
            stream=False,
            body=body,
            prompt_bytes=0,
            prompt_tokens=None,
            sequences=1,
            max_tokens=None,
            make_meter=OtherMeter,
            media_parts=1,
        )
    encoded = encode(fields)
    limits = [output_limit(fields.get(name), lax=True) for name in _LIMITS]
    return Call(
        api=Api.OTHER,
        stream=is_lax_true(fields.get("stream")),
        body=encoded,
        prompt_bytes=len(encoded),
        prompt_tokens=None,
        sequences=copies([fields.get("n")], lax=True),
        max_tokens=max((limit for limit in limits if limit is not None), default=None),
        make_meter=OtherMeter,
        model=model_name(fields),
    )


def _looks_like_json(body: bytes) -> bool:
    """An object or a list, whatever stands before it and however its characters are written."""
    return body[:64].translate(None, b"\x00\t\r\n \xef\xbb\xbf\xfe\xff")[:1] in (b"{", b"[")
