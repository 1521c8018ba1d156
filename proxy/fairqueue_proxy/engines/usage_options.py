"""Asks the engine for the token counts of a stream, and says what of them has to be taken out again.

OpenAI's `stream_options`. A value of a wrong shape is left for the engine to refuse. Pure functions on the fields of a
body, which they change.
"""

from dataclasses import dataclass
from typing import Final

from msgspec import Raw

from fairqueue_proxy.engines.fields import TRUE, Fields, decode_object, encode, is_lax_true, is_null, lax_bool


@dataclass(frozen=True, slots=True)
class Unasked:
    """What of the usage in a stream the client did not ask for."""

    in_chunks: bool = False
    at_end: bool = False


NOTHING: Final = Unasked()


def ask_at_end(fields: Fields) -> bool:
    """Asks for usage at the end of the stream; whether it had to be asked for."""
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


def ask_with_every_chunk(fields: Fields, *, chunks_alone: bool) -> Unasked:
    """Asks for usage with every chunk and at the end. `chunks_alone`: the engine gives the former without the latter,
    too, so that a client which asked for that only gets it."""
    present = fields.get("stream_options")
    options = {} if present is None or is_null(present) else decode_object(present)
    if options is None:
        return NOTHING
    end, chunks = options.get("include_usage"), options.get("continuous_usage_stats")
    if any(not is_null(raw) and lax_bool(raw) is None for raw in (end, chunks)):
        return NOTHING
    wanted_at_end = is_lax_true(end)
    wanted_in_chunks = is_lax_true(chunks) and (wanted_at_end or chunks_alone)
    if not wanted_at_end:
        options["include_usage"] = TRUE
    if not is_lax_true(chunks):
        options["continuous_usage_stats"] = TRUE
    fields["stream_options"] = Raw(encode(options))
    return Unasked(in_chunks=not wanted_in_chunks, at_end=not wanted_at_end)
