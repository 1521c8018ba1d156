"""Reads an engine's error, whatever shape it has: TGI's, OpenAI's, llama.cpp's, plain text.

One reader serves all engines, because their shapes do not collide. It classifies; it does not decide what is done about
it. Pure functions.
"""

from typing import Final

import msgspec

from fairqueue_proxy.metering.usage import EngineError, ErrorKind

MAX_MESSAGE_CHARACTERS: Final = 1000

# TGI's `error_type`. Those not listed (template_error, "batch size exceeded", ...) are faults of the request.
_KIND_BY_TGI_TYPE: Final = {
    "overloaded": ErrorKind.OVERLOADED,
    "generation": ErrorKind.FAILED,
    "incomplete_generation": ErrorKind.FAILED,
    "incomplete_generation_stream": ErrorKind.FAILED,
    "Incomplete generation": ErrorKind.FAILED,
    "stream_serialization_error": ErrorKind.FAILED,
    "healthcheck": ErrorKind.FAILED,
}

# Inside an OpenAI-shaped stream TGI says http_status_code 422 whatever happened; only its words tell.
_KIND_BY_TGI_WORDS: Final = (
    ("Model is overloaded", ErrorKind.OVERLOADED),
    ("Request failed during generation", ErrorKind.FAILED),
    ("Incomplete generation", ErrorKind.FAILED),
    ("Stream event serialization error", ErrorKind.FAILED),
    # A tool call cut short by max_tokens: the tokens were made, then the router could not parse them.
    ("Tool error: Failed to parse generated text", ErrorKind.FAILED),
    ("Input validation error", ErrorKind.REFUSED),
    ("Template error", ErrorKind.REFUSED),
    ("Missing template", ErrorKind.REFUSED),
    ("Tool error", ErrorKind.REFUSED),
)


# What stands in place of a status where an error has none: Anthropic's types, and OpenAI's codes.
_KIND_BY_WORD: Final = {
    "overloaded_error": ErrorKind.OVERLOADED,
    "rate_limit_error": ErrorKind.OVERLOADED,
    "rate_limit_exceeded": ErrorKind.OVERLOADED,
    "authentication_error": ErrorKind.REFUSED,
    "invalid_prompt": ErrorKind.REFUSED,
    "invalid_request_error": ErrorKind.REFUSED,
    "not_found_error": ErrorKind.REFUSED,
    "permission_error": ErrorKind.REFUSED,
    "request_too_large": ErrorKind.REFUSED,
}


class _ErrorReply(msgspec.Struct):
    error: msgspec.Raw = msgspec.Raw()
    error_type: str | None = None
    message: str | None = None
    code: int | str | None = None


class _ErrorObject(msgspec.Struct):
    message: str | None = None
    code: int | str | None = None
    type: str | None = None


_reply = msgspec.json.Decoder(_ErrorReply)
_error_object = msgspec.json.Decoder(_ErrorObject)
_text = msgspec.json.Decoder(str)


def kind_of_status(status: int) -> ErrorKind:
    """What an HTTP status from 400 alone says; 424 is TGI's status for a failure while generating, 529 Anthropic's for
    an overload, 501 says that the model can't do it."""
    if status in (429, 503, 529):
        return ErrorKind.OVERLOADED
    return ErrorKind.REFUSED if (status < 500 and status != 424) or status == 501 else ErrorKind.FAILED


def error_of_body(status: int, body: bytes) -> EngineError:
    """The error that a reply with a status from 400 carries, JSON or text, empty too."""
    try:
        return error_of_json(body, status)
    except (ValueError, RecursionError):
        text = body[: 4 * MAX_MESSAGE_CHARACTERS].decode("utf-8", "replace").strip()
        return _error(kind_of_status(status), text or f"HTTP status {status}")


def error_of_json(payload: bytes, status: int | None = None) -> EngineError:
    """The error that a JSON object tells, in a body or in an event.

    Raises ValueError (or RecursionError) for what is not an error object of any known shape.
    """
    reply = _reply.decode(payload)
    message, code, word = _message_and_code(reply)
    if message is None:
        raise ValueError("not an error object")
    return _error(_kind(message, reply.error_type, code, word, status), message)


def error_of_object(error: bytes) -> EngineError:
    """The error in an object that has a message and a code. Raises as `error_of_json` does."""
    inner = _error_object.decode(error)
    return _error(_kind(inner.message or "", None, inner.code, inner.type, None), inner.message or "")


def _message_and_code(reply: _ErrorReply) -> tuple[str | None, int | str | None, str | None]:
    shape = bytes(reply.error)[:1]
    if shape == b"{":
        inner = _error_object.decode(reply.error)
        return inner.message or "", inner.code, inner.type
    if shape == b'"':
        return _text.decode(reply.error), reply.code, None
    return reply.message, reply.code, None


def _kind(
    message: str, tgi_type: str | None, code: int | str | None, word: str | None, status: int | None
) -> ErrorKind:
    for words, kind in _KIND_BY_TGI_WORDS:
        if message.startswith(words):
            return kind
    if tgi_type is not None:
        return _KIND_BY_TGI_TYPE.get(tgi_type, ErrorKind.REFUSED)
    if isinstance(code, str) and code.isascii() and code.isdigit():
        code = int(code[:4])
    told = code if isinstance(code, int) and 400 <= code <= 599 else status
    if told is not None:
        return kind_of_status(told)
    names = (name for name in (code, word) if isinstance(name, str))
    return next((_KIND_BY_WORD[name] for name in names if name in _KIND_BY_WORD), ErrorKind.FAILED)


def _error(kind: ErrorKind, message: str) -> EngineError:
    return EngineError(kind, message[:MAX_MESSAGE_CHARACTERS])
