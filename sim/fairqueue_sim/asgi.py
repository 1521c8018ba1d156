"""How a server on uvicorn and FastAPI answers, whatever its routes: vLLM and SGLang.

Paths are percent-decoded before they are looked up, a slash too many at the end is redirected, HEAD is not GET, and
what nobody has is answered with a `detail`.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import unquote

import msgspec

from fairqueue_sim.wire import Exchange

__all__ = ["Routes", "dispatch", "event_lines", "json_lines", "reply_json", "text_lines"]

E = TypeVar("E")
Routes = Mapping[str, Mapping[str, Callable[[E, Exchange], None]]]

SERVER_LINE = b"server: uvicorn\r\n"


def json_lines(more: bytes = b"") -> bytes:
    """Header lines of a JSON reply; `more` are the server's own."""
    return SERVER_LINE + b"content-type: application/json\r\n" + more


def event_lines(more: bytes = b"") -> bytes:
    """Header lines of a stream."""
    return SERVER_LINE + b"content-type: text/event-stream; charset=utf-8\r\n" + more


def text_lines(kind: bytes, more: bytes = b"") -> bytes:
    """Header lines of a reply of another type; of one without a type if `kind` is empty."""
    return SERVER_LINE + (b"content-type: %b\r\n" % kind if kind else b"") + more


def reply_json(exchange: Exchange, status: int, body: object, more: bytes = b"") -> None:
    """Answers with JSON."""
    exchange.reply(status, json_lines(more), msgspec.json.encode(body))


def dispatch(routes: Routes[E], engine: E, exchange: Exchange, more: bytes = b"") -> None:
    """Hands the request to its route; `more` are header lines that every reply of this server has."""
    request = exchange.request
    path = unquote(request.path)
    methods = routes.get(path)
    if methods is None:
        if path.endswith("/") and path[:-1] in routes:
            location = b"location: http://%b%b\r\n" % (request.headers.get(b"host", b""), path[:-1].encode())
            exchange.reply(307, SERVER_LINE + location + more)
        else:
            reply_json(exchange, 404, {"detail": "Not Found"}, more)
        return
    route = methods.get(request.method)
    if route is None:
        allow = b"allow: %b\r\n" % ", ".join(methods).encode()
        reply_json(exchange, 405, {"detail": "Method Not Allowed"}, allow + more)
    else:
        route(engine, exchange)
