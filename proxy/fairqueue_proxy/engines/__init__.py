"""Adapters to model servers: their routes, their reading of requests, the shapes of their errors.

Pure: no I/O, no clock. The proxy asks an `Engine` what a request is and sends what it says.
"""

from fairqueue_proxy.engines.call import Access, Api, BadBody, Call, Route
from fairqueue_proxy.engines.engine import Engine
from fairqueue_proxy.engines.llamacpp import LlamaCpp
from fairqueue_proxy.engines.openai import OpenAi
from fairqueue_proxy.engines.sglang import Sglang
from fairqueue_proxy.engines.shapes import error_event, refusal_body
from fairqueue_proxy.engines.tgi import Tgi
from fairqueue_proxy.engines.vllm import Vllm

_ENGINES: dict[str, Engine] = {engine.kind: engine for engine in (Tgi(), Vllm(), Sglang(), LlamaCpp(), OpenAi())}


def engine_for(kind: str) -> Engine:
    """The adapter for a policy's `engine.kind`. Raises ValueError for a kind that does not exist."""
    try:
        return _ENGINES[kind]
    except KeyError:
        raise ValueError(f"unknown engine kind {kind!r}; known are {', '.join(sorted(_ENGINES))}") from None


__all__ = [
    "Access",
    "Api",
    "BadBody",
    "Call",
    "Engine",
    "LlamaCpp",
    "OpenAi",
    "Route",
    "Sglang",
    "Tgi",
    "Vllm",
    "engine_for",
    "error_event",
    "refusal_body",
]
