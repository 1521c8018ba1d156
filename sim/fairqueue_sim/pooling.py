"""POST /v1/embeddings, as a stand-in for models that only read: the prompt is prefilled, and no token is made."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from fairqueue_sim.asgi import json_lines
from fairqueue_sim.engine import Choice
from fairqueue_sim.generation import FinishReason
from fairqueue_sim.lax_bodies import LaxModel
from fairqueue_sim.prompts import Prompt, completion_prompts
from fairqueue_sim.refusal import Refusal

__all__ = ["PoolingBody", "PoolingShape"]

DIMENSIONS = 8
FAILED = {"error": {"message": "simulated failure", "type": "InternalServerError", "param": None, "code": 500}}


class PoolingBody(LaxModel):
    """Its body; the input is as the prompt of a completion."""

    input: list[int] | list[list[int]] | str | list[str]
    model: str | None = None

    def prompts(self) -> list[Prompt]:
        """All inputs in order."""
        return completion_prompts(self.input)


@dataclass(slots=True)
class PoolingShape:
    """The reply; `more` are the server's own header lines."""

    id: str
    created: int
    model: str
    more: bytes = b""

    def reply(self, choices: list[tuple[Choice, FinishReason]]) -> tuple[bytes, bytes]:
        tokens = sum(choice.prompt_tokens for choice, _ in choices)
        usage = {
            "prompt_tokens": tokens,
            "total_tokens": tokens,
            "completion_tokens": 0,
            "prompt_tokens_details": None,
            "completion_tokens_details": None,
        }
        fields = {
            "id": self.id,
            "object": "list",
            "created": self.created,
            "model": self.model,
            "data": [
                {"index": choice.index, "object": "embedding", "embedding": _direction(choice)}
                for choice in sorted((choice for choice, _ in choices), key=lambda choice: choice.index)
            ],
            "usage": usage,
        }
        return json_lines(self.more), msgspec.json.encode(fields)

    def failure(self, refusal: Refusal) -> tuple[int, bytes, bytes]:
        return 500, json_lines(self.more), msgspec.json.encode(FAILED)


def _direction(choice: Choice) -> Sequence[float]:
    """A vector of length one that depends on the prompt's length."""
    angles = [choice.prompt_tokens + place for place in range(DIMENSIONS // 2)]
    scale = math.sqrt(DIMENSIONS // 2)
    return [part / scale for angle in angles for part in (math.sin(angle), math.cos(angle))]
