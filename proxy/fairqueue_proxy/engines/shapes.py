"""The proxy's own refusals, in the shape that the clients of each route parse.

A table of words for each family of clients. Which refusal it is stands in `reason` as well; clients that do not know
the field ignore it. No I/O, no status lines.
"""

from typing import Any, Final

import msgspec

from fairqueue_proxy.engines.call import Api

_JSON: Final = "application/json"

_TGI_NATIVE: Final = frozenset({Api.TGI_GENERATE, Api.TGI_STREAM, Api.TGI_ROOT, Api.TGI_VERTEX, Api.TGI_INVOCATIONS})

# Their streams end without [DONE].
_WITHOUT_DONE: Final = _TGI_NATIVE | {Api.LLAMA_COMPLETION, Api.RESPONSES, Api.MESSAGES}

# TGI's clients make exceptions of these words; other statuses say their own reason.
_TGI_TYPES: Final = {
    400: "validation",
    408: "validation",
    413: "validation",
    422: "validation",
    431: "validation",
    429: "overloaded",
    503: "overloaded",
    504: "overloaded",
    500: "generation",
    502: "generation",
}

_OPENAI_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    408: "invalid_request_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    431: "invalid_request_error",
    429: "overloaded_error",
    503: "overloaded_error",
    504: "timeout_error",
}


_ANTHROPIC_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "invalid_request_error",
    413: "request_too_large",
    422: "invalid_request_error",
    431: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def refusal_body(api: Api | None, *, status: int, code: str, message: str) -> tuple[str, bytes]:
    """Content type and body of a refusal; `code` names the outcome, `api` is None off the metered routes."""
    return _JSON, msgspec.json.encode(_error(api, status, code, message))


def error_event(api: Api | None, *, status: int, code: str, message: str) -> bytes:
    """What ends a stream that has begun: an error event, and [DONE] where clients wait for it."""
    error = _error(api, status, code, message)
    if api is Api.RESPONSES:
        # OpenAI's event has its fields outside; its client raises only for an error inside.
        error = {"type": "error", "code": code, "message": message, "param": None, "sequence_number": 0, **error}
    name = b"event: error\n" if api in (Api.RESPONSES, Api.MESSAGES) else b""
    event = name + b"data: " + msgspec.json.encode(error) + b"\n\n"
    return event if api in _WITHOUT_DONE else event + b"data: [DONE]\n\n"


def _error(api: Api | None, status: int, code: str, message: str) -> dict[str, Any]:
    error_type = _TGI_TYPES.get(status, code)
    if api in _TGI_NATIVE:
        return {"error": message, "error_type": error_type, "reason": code}
    if api is Api.MESSAGES:
        kind = _ANTHROPIC_TYPES.get(status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": message, "reason": code}}
    openai_type = _OPENAI_TYPES.get(status, "server_error")
    if api is Api.LLAMA_COMPLETION:
        return {"error": {"code": status, "message": message, "type": openai_type, "reason": code}}
    error = {"message": message, "type": openai_type, "code": status, "reason": code}
    return {"error": error, "error_type": error_type}
