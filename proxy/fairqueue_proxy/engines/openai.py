"""Any engine with OpenAI's chat and completions routes: how it is read when nothing else is known about it.

Engines of this kind read leniently ("stream": "true" is a stream), so this adapter does too.
"""

from typing import Final

from msgspec import Raw

from fairqueue_proxy.engines.call import Api, Call, Route
from fairqueue_proxy.engines.engine import STRIPPED_HEADERS, RouteTable
from fairqueue_proxy.engines.fields import (
    TRUE,
    Fields,
    copies,
    decode_body,
    decode_object,
    encode,
    is_lax_true,
    is_null,
    output_limit,
)
from fairqueue_proxy.engines.prompts import size_of_chat, size_of_prompt
from fairqueue_proxy.metering.openai import OpenAiMeter

_ROUTES: Final = RouteTable(
    metered={"/v1/chat/completions": Api.CHAT, "/v1/completions": Api.COMPLETIONS},
    free=frozenset({"/health", "/v1/models", "/metrics", "/version", "/ping"}),
)


class OpenAi:
    """The engine kind `OpenAI`."""

    kind = "OpenAI"
    stripped_headers = STRIPPED_HEADERS
    cancels_plain = True

    def route(self, method: str, path: str) -> Route:
        return _ROUTES.match(method, path)

    def parse(self, route: Route, body: bytes) -> Call:
        if route.api not in (Api.CHAT, Api.COMPLETIONS):
            raise ValueError(f"not a metered route of an OpenAI-compatible engine: {route}")
        fields = decode_body(body)
        stream = is_lax_true(fields.get("stream"))
        strip_usage = stream and _ask_usage(fields)
        size = size_of_chat(fields) if route.api is Api.CHAT else size_of_prompt(fields.get("prompt"))
        samples = copies([fields.get("n")], lax=True)
        # best_of includes n; engines that do not know it ignore it.
        made = copies([fields.get("n"), fields.get("best_of")], lax=True)
        limit = fields.get("max_completion_tokens")
        return Call(
            api=route.api,
            stream=stream,
            body=encode(fields),
            prompt_bytes=size.text_bytes * made,
            prompt_tokens=size.tokens * made if size.tokens is not None else None,
            sequences=size.prompts * made,
            max_tokens=output_limit(fields.get("max_tokens") if is_null(limit) else limit, lax=True),
            make_meter=lambda: OpenAiMeter(sequences=size.prompts * samples, copies=samples, strip_usage=strip_usage),
            media_parts=size.media_parts * made,
        )


def _ask_usage(fields: Fields) -> bool:
    """Whether usage had to be asked for; a value of another shape is left for the engine to refuse."""
    present = fields.get("stream_options")
    if is_null(present):
        fields["stream_options"] = Raw(b'{"include_usage":true}')
        return True
    options = decode_object(present)
    if options is None or is_lax_true(options.get("include_usage")):
        return False
    options["include_usage"] = TRUE
    fields["stream_options"] = Raw(encode(options))
    return True
