"""Text Generation Inference 2.x and 3.x: its routes and how it reads a request.

TGI reads strictly: a field of the wrong type is refused with 422, so such fields are sent on as they are. Usage is
asked for only where TGI keeps it to itself: `details` for native streams and for `best_of`, `stream_options` for chat
streams.
"""

from typing import Final

from msgspec import Raw

from fairqueue_proxy.engines.call import Api, Call, Route
from fairqueue_proxy.engines.conversations import size_of_chat
from fairqueue_proxy.engines.engine import STRIPPED_HEADERS, ListedRoutes, RouteTable
from fairqueue_proxy.engines.fields import (
    TRUE,
    Fields,
    copies,
    decode_body,
    decode_object,
    encode,
    is_null,
    is_true,
    output_limit,
)
from fairqueue_proxy.engines.prompts import size_of_prompt, size_of_text
from fairqueue_proxy.engines.sized_call import sized_call
from fairqueue_proxy.engines.tgi_cloud import output_limit_of_instances, shape_of_invocation, size_of_instances
from fairqueue_proxy.metering.tgi import TgiChatMeter, TgiCompletionsMeter, TgiNativeMeter
from fairqueue_proxy.metering.tgi_vertex import TgiVertexMeter

# Longer outputs are generated in pieces of this size, the last one whole: 1025 and 1500 both give 2048 tokens.
_PIECE_TOKENS: Final = 1024

_ROUTES: Final = RouteTable(
    metered={
        "/": Api.TGI_ROOT,
        "/generate": Api.TGI_GENERATE,
        "/generate_stream": Api.TGI_STREAM,
        "/v1/chat/completions": Api.CHAT,
        "/v1/completions": Api.COMPLETIONS,
        "/vertex": Api.TGI_VERTEX,
        "/invocations": Api.TGI_INVOCATIONS,
    },
    identified=frozenset({"/tokenize", "/chat_tokenize"}),
    free=frozenset(
        {"/", "/health", "/ping", "/info", "/metrics", "/v1/models", "/docs", "/api-doc/openapi.json"},
    ),
    free_prefixes=("/docs/",),
)


class Tgi(ListedRoutes):
    """The engine kind `TGI`."""

    kind = "TGI"
    routes = _ROUTES
    stripped_headers = STRIPPED_HEADERS
    shares_request_ids = False
    cancels_plain = True

    def parse(self, route: Route, body: bytes) -> Call:
        fields = decode_body(body)
        api = shape_of_invocation(fields) if route.api is Api.TGI_INVOCATIONS else route.api
        if api is Api.CHAT:
            return _parse_chat(fields)
        if api is Api.COMPLETIONS:
            return _parse_completions(fields)
        if api is Api.TGI_VERTEX:
            return _parse_vertex(fields)
        if api in (Api.TGI_GENERATE, Api.TGI_STREAM, Api.TGI_ROOT):
            return _parse_native(api, fields)
        raise ValueError(f"not a metered route of TGI: {route}")


def _parse_native(api: Api, fields: Fields) -> Call:
    stream = api is Api.TGI_STREAM or (api is Api.TGI_ROOT and is_true(fields.get("stream")))
    parameters = decode_object(fields.get("parameters"))
    # best_of is refused in a stream.
    best_of = 1 if stream or parameters is None else copies([parameters.get("best_of")])
    strip_details = (stream or best_of > 1) and _ask_details(fields, parameters)
    if parameters is not None:
        fields["parameters"] = Raw(encode(parameters))
    return sized_call(
        api,
        fields,
        size_of_text(fields.get("inputs")),
        stream=stream,
        samples=best_of,
        max_tokens=_rounded(output_limit((parameters or {}).get("max_new_tokens"))),
        make_meter=lambda: TgiNativeMeter(best_of=best_of, strip_details=strip_details),
    )


def _ask_details(fields: Fields, parameters: Fields | None) -> bool:
    """Whether details had to be asked for; they are left alone where the client asked, or asked in a wrong way."""
    if "parameters" not in fields:
        # Without parameters TGI samples, with an empty object it does not: the client's meaning is kept.
        fields["parameters"] = Raw(b'{"do_sample":true,"details":true}')
        return True
    if parameters is None or bytes(parameters.get("details", b"false")) != b"false":
        return False
    parameters["details"] = TRUE
    return not is_true(parameters.get("decoder_input_details"))


def _parse_chat(fields: Fields) -> Call:
    stream = is_true(fields.get("stream"))
    strip_usage = stream and _ask_usage(fields)
    limit = fields.get("max_completion_tokens")
    tools = not is_null(fields.get("tools"))
    # TGI ignores `n`.
    return sized_call(
        Api.CHAT,
        fields,
        size_of_chat(fields),
        stream=stream,
        max_tokens=_rounded(output_limit(fields.get("max_tokens") if is_null(limit) else limit)),
        make_meter=lambda: TgiChatMeter(tools=tools, strip_usage=strip_usage),
    )


def _ask_usage(fields: Fields) -> bool:
    if "stream_options" not in fields:
        fields["stream_options"] = Raw(b'{"include_usage":true}')
        return True
    options = decode_object(fields["stream_options"])
    if options is None or bytes(options.get("include_usage", b"false")) != b"false":
        return False
    options["include_usage"] = TRUE
    fields["stream_options"] = Raw(encode(options))
    return True


def _parse_completions(fields: Fields) -> Call:
    # TGI ignores `n` and `best_of` here, and refuses token ids.
    size = size_of_prompt(fields.get("prompt"))
    return sized_call(
        Api.COMPLETIONS,
        fields,
        size,
        stream=is_true(fields.get("stream")),
        max_tokens=_rounded(output_limit(fields.get("max_tokens"))),
        make_meter=lambda: TgiCompletionsMeter(prompts=size.prompts),
    )


def _parse_vertex(fields: Fields) -> Call:
    limit = _rounded(output_limit_of_instances(fields))
    return sized_call(
        Api.TGI_VERTEX,
        fields,
        size_of_instances(fields),
        stream=False,
        max_tokens=limit,
        make_meter=lambda: TgiVertexMeter(max_tokens=limit),
    )


def _rounded(limit: int | None) -> int | None:
    if limit is None or limit <= _PIECE_TOKENS:
        return limit
    return -(-limit // _PIECE_TOKENS) * _PIECE_TOKENS
