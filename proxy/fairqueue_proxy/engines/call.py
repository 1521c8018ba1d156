"""What the proxy knows about a request before it is sent: its route, its size, the body for the engine, its meter.

Plain data. A `Call` belongs to one request; each attempt to serve it takes a new meter.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass

from fairqueue_proxy.metering.meter import Meter


class BadBody(ValueError):
    """The body cannot be served: it is no JSON object, or asks for what would outlive the request or reach the data of
    others. The message says why."""


class Api(enum.Enum):
    """The shape that a route speaks, in its replies and its errors."""

    TGI_GENERATE = "tgi_generate"
    TGI_STREAM = "tgi_stream"
    TGI_ROOT = "tgi_root"
    TGI_VERTEX = "tgi_vertex"
    TGI_INVOCATIONS = "tgi_invocations"
    """The body's shape says which other one it is."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    RESPONSES = "responses"
    MESSAGES = "messages"
    EMBEDDINGS = "embeddings"
    """Embeddings, scores, classes, reranking: input and no output."""

    INVOCATIONS = "invocations"
    """The body's shape says which other one it is, as for TGI."""

    LLAMA_COMPLETION = "llama_completion"
    SGLANG_GENERATE = "sglang_generate"
    OTHER = "other"
    """Nothing is known about it but that it may cost something."""


class Access(enum.Enum):
    """What the proxy does with a route."""

    METERED = "metered"
    IDENTIFIED = "identified"
    """Needs an identity and generates nothing: relayed with its body, not queued, not charged."""

    FREE = "free"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Route:
    """The answer to a method and a path; `api` is set on metered routes."""

    access: Access
    api: Api | None = None


@dataclass(slots=True)
class Call:
    """A request as the engine will read it. Sizes that the body does not tell, or tells wrongly, are None or least."""

    api: Api
    stream: bool
    body: bytes
    """What is sent: steering fields dropped, usage asked for, every other value byte for byte."""

    prompt_bytes: int
    """UTF-8 bytes of text in all prompts or messages and tools, once per sequence."""

    prompt_tokens: int | None
    """Exact, over all sequences, if the client sent token ids."""

    sequences: int
    """Prompts x samples of each; at least 1."""

    max_tokens: int | None
    """The longest output that one sequence can have as the engine reads it; None: no limit but the context."""

    make_meter: Callable[[], Meter]
    media_parts: int = 0
    """Images, audio and the like among the messages, whose bytes are not in `prompt_bytes`; once per sequence."""

    model: str = ""
    """The model that the body names; empty where it names none."""

    user: str | None = None
    """Whom of its own users the client names; splits only the tenant's own share."""

    def meter(self) -> Meter:
        return self.make_meter()
