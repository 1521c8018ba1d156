"""Reads chat and completions bodies for engines that tell their token counts with every chunk: vLLM and SGLang.

Both read leniently ("stream": "true" is a stream, "2" is a number) and know the same `stream_options`.
"""

from collections.abc import Callable
from typing import Final

from fairqueue_proxy.engines.call import Api, Call
from fairqueue_proxy.engines.conversations import size_of_chat
from fairqueue_proxy.engines.fields import Fields, copies, is_lax_true, is_null, output_limit
from fairqueue_proxy.engines.prompts import PromptSize, size_of_prompt
from fairqueue_proxy.engines.sized_call import sized_call
from fairqueue_proxy.engines.usage_options import NOTHING, Unasked, ask_with_every_chunk
from fairqueue_proxy.metering.meter import Meter

DEFAULT_COMPLETION_TOKENS: Final = 16
"""What both make on `/v1/completions` if no limit is given; a chat goes on to the end of the context."""

# prompts x copies, copies, what to take out again
MakeMeter = Callable[[int, int, Unasked], Meter]


def parse_with_live_usage(
    api: Api, fields: Fields, size: PromptSize, make_meter: MakeMeter, *, chunks_alone: bool
) -> Call:
    """A chat or completions request; `chunks_alone` as in `ask_with_every_chunk`."""
    stream = is_lax_true(fields.get("stream"))
    unasked = ask_with_every_chunk(fields, chunks_alone=chunks_alone) if stream else NOTHING
    # Both ignore best_of.
    samples = copies([fields.get("n")], lax=True)
    return sized_call(
        api,
        fields,
        size,
        stream=stream,
        max_tokens=_output_limit(api, fields),
        samples=samples,
        make_meter=lambda: make_meter(size.prompts * samples, samples, unasked),
    )


def size_of(api: Api, fields: Fields) -> PromptSize:
    return size_of_chat(fields) if api is Api.CHAT else size_of_prompt(fields.get("prompt"))


def _output_limit(api: Api, fields: Fields) -> int | None:
    if api is Api.COMPLETIONS:
        told = fields.get("max_tokens")
        return DEFAULT_COMPLETION_TOKENS if is_null(told) else output_limit(told, lax=True)
    newer = fields.get("max_completion_tokens")
    return output_limit(fields.get("max_tokens") if is_null(newer) else newer, lax=True)
