"""SGLang's server without its routes: its limits and its errors, by its source (0.5.23).

The KV cache is taken token by token as outputs grow; while prompts are prefilled, nobody decodes. `slots` is
`--max-running-requests`. `max_concurrent_requests` counts running and queued requests; beyond it the queue is full.
"""

import json
from dataclasses import replace

from fairqueue_sim.asgi import reply_json
from fairqueue_sim.engine import EngineSettings
from fairqueue_sim.engine_front import EngineFront, Place
from fairqueue_sim.generation import BatchLimits
from fairqueue_sim.prompts import Prompt
from fairqueue_sim.refusal import Refusal
from fairqueue_sim.scheduling_rules import SGLANG_RULES
from fairqueue_sim.sessions import Event
from fairqueue_sim.truth import TruthLog
from fairqueue_sim.wire import Exchange

__all__ = ["ENGINE_FAILED", "QUEUE_FULL", "SglangEngine", "error_event", "flat_error"]

DEFAULT_MAX_RUNNING_REQUESTS = 2048
QUEUE_FULL = Refusal(503, "The request queue is full.", "SERVICE_UNAVAILABLE")
ENGINE_FAILED = Refusal(500, "Internal server error: simulated failure", "InternalServerError")


class SglangEngine(EngineFront):
    """The server's state."""

    full = QUEUE_FULL

    def __init__(self, settings: EngineSettings, truth: TruthLog) -> None:
        super().__init__(settings, truth, _limits(settings))

    def reply_error(self, exchange: Exchange, refusal: Refusal) -> None:
        reply_json(exchange, refusal.status, flat_error(refusal))

    def take_places_for(self, count: int, *, streamed: bool) -> list[Place] | None:
        """As take_places; None for a stream that finds the queue full, which it says after its head."""
        return None if streamed and not self.has_places(count) else self.take_places(count)

    def check_size(self, prompts: list[Prompt], limit: int | None) -> None:
        """Raises Refusal for what can never be served; a limit that is too high is no reason."""
        longest = self.limits.max_total_tokens
        if not prompts or not all(prompt.tokens for prompt in prompts):
            raise _bad_request("Prompt cannot be empty")
        if limit is not None and limit < 1:
            raise _bad_request(f"max_new_tokens must be at least 1, got {limit}.")
        for prompt in prompts:
            if prompt.tokens >= longest:
                message = f"The input ({prompt.tokens} tokens) is longer than the model's context length ({longest})."
                raise _bad_request(message)


def _limits(settings: EngineSettings) -> BatchLimits:
    limits = settings.limits()
    return replace(
        limits,
        piece_tokens=limits.max_total_tokens,
        slots=limits.slots or DEFAULT_MAX_RUNNING_REQUESTS,
        rules=SGLANG_RULES,
    )


def _bad_request(message: str) -> Refusal:
    return Refusal(400, message, "BadRequestError")


def flat_error(refusal: Refusal) -> dict[str, object]:
    """The JSON value of an error of the OpenAI routes, which has no `error` around it."""
    return {
        "object": "error",
        "message": refusal.message,
        "type": refusal.error_type,
        "param": refusal.param,
        "code": refusal.status,
    }


def error_event(refusal: Refusal) -> Event:
    """The same in a stream of the OpenAI routes."""
    return Event(b"data: %b\n\n" % json.dumps({"error": flat_error(refusal)}).encode())
