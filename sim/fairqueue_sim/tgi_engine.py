"""Text Generation Inference's router without its routes: permits, checks, counters, and what every metered route does.

The order of refusal is the router's: content type, then body, then overload, then what the request asks for. Every
prompt and every copy that `best_of` asks for takes one of `max_concurrent_requests` permits.
"""

from collections.abc import Callable
from typing import TypeVar

from fairqueue_sim.bodies import BodyError, decode_body
from fairqueue_sim.engine import Choice, EndKind, EngineSettings, SimulatedEngine
from fairqueue_sim.generation import Step
from fairqueue_sim.refusal import OVERLOADED, Refusal
from fairqueue_sim.tgi_metrics import TgiMetrics
from fairqueue_sim.tgi_requests import GenerateParameters, check_parameters, check_size
from fairqueue_sim.tgi_shapes import CORS_LINES, JSON_LINE, native_error
from fairqueue_sim.truth import Outcome, RequestTruth, TruthLog
from fairqueue_sim.wire import Exchange, HttpRequest

__all__ = ["Permit", "TgiEngine"]

TEXT_LINE = b"content-type: text/plain; charset=utf-8\r\n"
DEFAULT_MAX_CONCURRENT_REQUESTS = 128
Permit = Callable[[], None]
T = TypeVar("T")


class TgiEngine(SimulatedEngine):
    """The router's state in front of the simulated model."""

    def __init__(self, settings: EngineSettings, truth: TruthLog) -> None:
        super().__init__(settings, truth)
        self.metrics = TgiMetrics()
        given = settings.max_concurrent_requests
        self.max_concurrent_requests = DEFAULT_MAX_CONCURRENT_REQUESTS if given is None else given
        self.permits = self.max_concurrent_requests

    def on_step(self, step: Step, over: bool) -> None:
        method = 'method="prefill"' if step.joined else 'method="decode"'
        if over:
            self.metrics.count("tgi_batch_inference_failure" if step.failed else "tgi_batch_inference_success", method)
            self.truth.flush()
            return
        self.metrics.count("tgi_batch_inference_count", method)
        if step.joined and len(step.joined) < self.batch.running:
            self.metrics.count("tgi_batch_concat", 'reason="chunking"')

    def on_ended(self, kind: EndKind) -> None:
        if kind == "success":
            self.metrics.count("tgi_request_success")
        else:
            self.metrics.count("tgi_request_failure", 'err="generation"')

    def body(self, exchange: Exchange, kind: type[T]) -> T | None:
        """The request's body; None when it was answered with what is wrong with it."""
        request = exchange.request
        try:
            _check_content_type(request)
            if request.too_large:
                raise BodyError(413, "Failed to buffer the request body: length limit exceeded")
            return decode_body(request.body, kind)
        except BodyError as error:
            exchange.reply(error.status, TEXT_LINE + CORS_LINES, error.text.encode())
            return None

    def counted(self, exchange: Exchange, requests: int) -> RequestTruth:
        """Notes a metered request whose body is right; `requests` is what TGI counts it as."""
        self.metrics.count("tgi_request_count", by=requests)
        return self.arrived(exchange.request)

    def take_permits(self, count: int) -> list[Permit]:
        """Takes so many permits, or none and raises Refusal. A permit is given back by calling it once."""
        if self.permits < count:
            self.metrics.count("tgi_request_failure", 'err="overloaded"')
            raise OVERLOADED
        self.permits -= count
        return [self._release] * count

    def give_back(self, permits: list[Permit]) -> None:
        """Gives permits back that were not used."""
        for permit in permits:
            permit()

    def _release(self) -> None:
        self.permits += 1

    def check(self, text: str, tokens: int, parameters: GenerateParameters) -> int:
        """The prompt's tokens after truncation; raises Refusal."""
        try:
            check_parameters(parameters)
            return check_size(text, tokens, parameters, self.limits)
        except Refusal:
            self.count_invalid()
            raise

    def count_invalid(self) -> None:
        """Counts a request that asks for what cannot be."""
        self.metrics.count("tgi_request_failure", 'err="validation"')

    def tgi_choice(self, index: int, text: str, tokens: int, parameters: GenerateParameters) -> Choice:
        """Prepares one output for checked parameters."""
        choice = self.choice(index, text, tokens, parameters.max_new_tokens, parameters.stop)
        if parameters.seed is not None:
            choice.seed = parameters.seed
        return choice

    def refuse(self, exchange: Exchange, record: RequestTruth, refusal: Refusal) -> None:
        """Answers a request that is not streamed with its refusal."""
        self.truth.ended(record, Outcome.REFUSED)
        self.truth.flush()
        exchange.reply(refusal.status, JSON_LINE + CORS_LINES, native_error(refusal))


def _check_content_type(request: HttpRequest) -> None:
    kind = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != b"application/json" and not (kind.startswith(b"application/") and kind.endswith(b"+json")):
        raise BodyError(415, "Expected request with `Content-Type: application/json`")
