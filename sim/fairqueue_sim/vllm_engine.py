"""vLLM's server without its routes: its limits, its errors, and what every metered route does first.

The KV cache is taken block by block as outputs grow, `slots` is `--max-num-seqs`, and `max_concurrent_requests` is
`--max-num-queued-reqs`, which counts running requests as well.
"""

from collections.abc import Sequence

from fairqueue_sim.asgi import reply_json
from fairqueue_sim.engine import EngineSettings
from fairqueue_sim.engine_front import EngineFront, Place
from fairqueue_sim.lax_bodies import UNREADABLE
from fairqueue_sim.prompts import Prompt
from fairqueue_sim.refusal import Refusal
from fairqueue_sim.scheduling_rules import VLLM_RULES
from fairqueue_sim.truth import TruthLog
from fairqueue_sim.wire import Exchange

__all__ = ["ENGINE_DEAD", "FINGERPRINT", "VARY", "VllmEngine", "bad_request", "error_body"]

VARY = b"vary: Origin\r\n"
FINGERPRINT = "vllm-0.32.0-1363d280"
DEFAULT_MAX_NUM_SEQS = 256
ENGINE_BUSY = Refusal(
    503,
    "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance.",
    "Service Unavailable",
)
ENGINE_DEAD = Refusal(
    500,
    "EngineCore encountered an issue. See stack trace (above) for the root cause.",
    "InternalServerError",
)


class VllmEngine(EngineFront):
    """The server's state."""

    full = ENGINE_BUSY

    def __init__(self, settings: EngineSettings, truth: TruthLog) -> None:
        super().__init__(settings, truth, settings.limits().in_blocks(VLLM_RULES, DEFAULT_MAX_NUM_SEQS))
        self.admission_rejections = 0

    def take_places(self, count: int) -> list[Place]:
        """As everywhere; refusals are counted."""
        try:
            return super().take_places(count)
        except Refusal:
            self.admission_rejections += 1
            raise

    def reply_error(self, exchange: Exchange, refusal: Refusal) -> None:
        if refusal is UNREADABLE:
            reply_json(exchange, refusal.status, {"detail": refusal.message}, VARY)
        else:
            reply_json(exchange, refusal.status, error_body(refusal), VARY)

    @property
    def blocks(self) -> int:
        """Blocks of the KV cache; one of them is never used."""
        return self.limits.kv_tokens // self.limits.rules.block_tokens

    def check_model(self, model: str | None) -> None:
        """Raises Refusal for a model that is not served; none may be given."""
        if model is not None and model != self.model_id:
            message = f"The model `{model}` does not exist. Valid aliases: {self.model_id}."
            raise Refusal(404, message, "NotFoundError", "model")

    def check_size(self, prompts: Sequence[Prompt], limit: int | None, *, name: str = "max_tokens") -> None:
        """Raises Refusal for a prompt that is too long, or a limit on its output that cannot be."""
        longest = self.limits.max_total_tokens
        for prompt in prompts:
            if prompt.tokens >= longest:
                raise bad_request(
                    f"This model's maximum context length is {longest} tokens. However, your prompt contains at least "
                    f"{longest + 1} input tokens, which exceeds this limit even without any output tokens. Please "
                    "reduce the length of the input prompt.",
                    "input_tokens",
                    longest + 1,
                )
        if limit is not None and limit < 1:
            raise bad_request(f"max_tokens must be at least 1, got {limit}.", "max_tokens", limit)
        if limit is not None and limit > longest:
            raise bad_request(
                f"{name}={limit} cannot be greater than max_model_len={longest}. Please request fewer output tokens.",
                name,
                limit,
            )


def bad_request(message: str, param: str | None, value: object = None) -> Refusal:
    """A refusal of what a request asks for; a value, or a message without a full stop, names the parameter."""
    places = [] if param is None else [f"parameter={param}"]
    if value is not None:
        places.append(f"value={value}")
    if places:
        message += f" ({', '.join(places)})"
    return Refusal(400, message, "BadRequestError", param)


def error_body(refusal: Refusal) -> dict[str, object]:
    """The JSON value of an error."""
    fields = {
        "message": refusal.message,
        "type": refusal.error_type,
        "param": refusal.param,
        "code": refusal.status,
    }
    return {"error": fields}
