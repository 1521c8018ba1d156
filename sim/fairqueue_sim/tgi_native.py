"""TGI's native generation routes: POST /, /generate and /generate_stream."""

from fairqueue_sim.refusal import Refusal
from fairqueue_sim.sessions import PlainSession, StreamSession
from fairqueue_sim.tgi_engine import TgiEngine
from fairqueue_sim.tgi_plain import NativeShape, Timing
from fairqueue_sim.tgi_requests import MAX_BEST_OF, CompatGenerateRequest, GenerateParameters, GenerateRequest
from fairqueue_sim.tgi_shapes import NativeStreamShape
from fairqueue_sim.tokenizer import count_tokens
from fairqueue_sim.truth import RequestTruth
from fairqueue_sim.wire import Exchange

__all__ = ["compat_generate", "generate", "generate_stream"]


def compat_generate(engine: TgiEngine, exchange: Exchange) -> None:
    """POST /: streamed or an array of one, and by default with the prompt before the text."""
    body = engine.body(exchange, CompatGenerateRequest)
    if body is None:
        return
    if body.parameters.return_full_text is None:
        body.parameters.return_full_text = True
    record = engine.counted(exchange, 1)
    if body.stream:
        _stream(engine, exchange, record, body.inputs, body.parameters)
    else:
        _plain(engine, exchange, record, body.inputs, body.parameters, in_array=True)


def generate(engine: TgiEngine, exchange: Exchange) -> None:
    """POST /generate."""
    body = engine.body(exchange, GenerateRequest)
    if body is not None:
        record = engine.counted(exchange, 1)
        _plain(engine, exchange, record, body.inputs, body.parameters, in_array=False)


def generate_stream(engine: TgiEngine, exchange: Exchange) -> None:
    """POST /generate_stream."""
    body = engine.body(exchange, GenerateRequest)
    if body is not None:
        _stream(engine, exchange, engine.counted(exchange, 1), body.inputs, body.parameters)


def _plain(
    engine: TgiEngine,
    exchange: Exchange,
    record: RequestTruth,
    text: str,
    parameters: GenerateParameters,
    *,
    in_array: bool,
) -> None:
    copies = parameters.best_of or 1
    shape = NativeShape(
        timing=Timing(record.arrived_at, engine.clock, len(text)),
        prompt=text,
        details=parameters.details,
        prefill_details=parameters.decoder_input_details,
        seed=parameters.do_sample,
        top_n=parameters.top_n_tokens or 0,
        full_text=bool(parameters.return_full_text),
        in_array=in_array,
    )
    try:
        if copies > MAX_BEST_OF:
            engine.count_invalid()
            raise _invalid(f"`best_of` must be > 0 and <= {MAX_BEST_OF}. Given: {copies}")
        permits = engine.take_permits(copies)
        try:
            tokens = engine.check(text, 1 + count_tokens(text), parameters)
        except Refusal:
            engine.give_back(permits)
            raise
    except Refusal as refusal:
        engine.refuse(exchange, record, refusal)
        return
    session = PlainSession(engine, exchange, record, shape, permits=permits, counts_as_one=True)
    session.begin([engine.tgi_choice(index, text, tokens, parameters) for index in range(copies)])


def _stream(
    engine: TgiEngine, exchange: Exchange, record: RequestTruth, text: str, parameters: GenerateParameters
) -> None:
    shape = NativeStreamShape(
        characters=len(text),
        details=parameters.details,
        seed=parameters.do_sample,
        top_n=parameters.top_n_tokens or 0,
        full_text_prefix=text if parameters.return_full_text else "",
    )
    session = StreamSession(engine, exchange, record, shape)
    try:
        _check_streamable(engine, parameters)
        (permit,) = engine.take_permits(1)
        session.hold(permit)
        tokens = engine.check(text, 1 + count_tokens(text), parameters)
    except Refusal as refusal:
        session.begin([refusal])
    else:
        session.begin([engine.tgi_choice(0, text, tokens, parameters)])


def _check_streamable(engine: TgiEngine, parameters: GenerateParameters) -> None:
    refused = None
    if (parameters.best_of or 1) != 1:
        refused = _invalid("`best_of` != 1 is not supported when streaming tokens")
    elif parameters.decoder_input_details:
        refused = _invalid("`decoder_input_details` == true is not supported when streaming tokens")
    if refused is not None:
        engine.count_invalid()
        raise refused


def _invalid(message: str) -> Refusal:
    return Refusal(422, f"Input validation error: {message}", "validation")
