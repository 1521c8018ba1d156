"""The proxy's own refusals, in the shape that the clients of each route parse.

One table of words, three shapes. Which refusal it is stands in `reason` as well; clients that do not know the field
ignore it. No I/O, no status lines.
"""

from typing import Any, Final

import msgspec

from fairqueue_proxy.engines.call import Api

_JSON: Final = "application/json"

_TGI_NATIVE: Final = frozenset({Api.TGI_GENERATE, Api.TGI_STREAM, Api.TGI_ROOT})

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


def refusal_body(api: Api | None, *, status: int, code: str, message: str) -> tuple[str, bytes]:
    """Content type and body of a refusal; `code` names the outcome, `api` is None off the metered routes."""
    return _JSON, msgspec.json.encode(_error(api, status, code, message))


def error_event(api: Api | None, *, status: int, code: str, message: str) -> bytes:
    """What ends a stream that has begun: an error event, and [DONE] where clients wait for it."""
    event = b"data: " + msgspec.json.encode(_error(api, status, code, message)) + b"\n\n"
    return event + b"data: [DONE]\n\n" if _is_openai(api) else event


def _error(api: Api | None, status: int, code: str, message: str) -> dict[str, Any]:
    error_type = _TGI_TYPES.get(status, code)
    if api in _TGI_NATIVE:
        return {"error": message, "error_type": error_type, "reason": code}
    openai_type = _OPENAI_TYPES.get(status, "server_error")
    error = {"message": message, "type": openai_type, "code": status, "reason": code}
    if not _is_openai(api):
        return {"error": {"code": status, "message": message, "type": openai_type, "reason": code}}
    return {"error": error, "error_type": error_type}


def _is_openai(api: Api | None) -> bool:
    return api is None or api in (Api.CHAT, Api.COMPLETIONS)
