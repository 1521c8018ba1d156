"""TGI's OpenAI-like routes: POST /v1/chat/completions and /v1/completions."""

from fairqueue_sim.engine import Choice
from fairqueue_sim.refusal import Refusal
from fairqueue_sim.sessions import PlainSession, StreamSession
from fairqueue_sim.tgi_engine import Permit, TgiEngine
from fairqueue_sim.tgi_plain import ChatShape, CompletionShape, Timing
from fairqueue_sim.tgi_requests import MAX_CLIENT_BATCH_SIZE, ChatRequest, CompletionRequest, GenerateParameters
from fairqueue_sim.tgi_shapes import ChatStreamShape, CompletionStreamShape, ReplyPrefix, model_fields
from fairqueue_sim.tokenizer import count_tokens
from fairqueue_sim.truth import RequestTruth
from fairqueue_sim.wire import Exchange

__all__ = ["chat_completions", "completions"]

BATCH_TOO_LARGE = Refusal(
    422, f"Number of prompts exceeds the maximum allowed batch size of {MAX_CLIENT_BATCH_SIZE}", "batch size exceeded"
)
SUFFIX = Refusal(
    422, "Suffix is not supported and can be achieved by preprocessing the prompt.", "suffix not supported"
)


def chat_completions(engine: TgiEngine, exchange: Exchange) -> None:
    """POST /v1/chat/completions."""
    body = engine.body(exchange, ChatRequest)
    if body is None:
        return
    record = engine.counted(exchange, 2)
    text, tokens = body.prompt()
    parameters = body.parameters()
    if body.stream:
        _chat_stream(engine, exchange, record, body, text, tokens, parameters)
        return
    shape = ChatShape(
        timing=Timing(record.arrived_at, engine.clock, len(text)),
        prefix=_prefix(engine, "chat.completion", body.model),
        logprobs=bool(body.logprobs),
        top_logprobs=body.top_logprobs or 0,
    )
    try:
        choice, permit = _admit(engine, 0, text, tokens, parameters)
    except Refusal as refusal:
        engine.refuse(exchange, record, refusal)
    else:
        PlainSession(engine, exchange, record, shape, permits=[permit]).begin([choice])


def _chat_stream(
    engine: TgiEngine,
    exchange: Exchange,
    record: RequestTruth,
    body: ChatRequest,
    text: str,
    tokens: int,
    parameters: GenerateParameters,
) -> None:
    shape = ChatStreamShape(
        characters=len(text),
        prefix=_prefix(engine, "chat.completion.chunk", body.model),
        include_usage=body.stream_options.include_usage,
        logprobs=bool(body.logprobs),
        top_logprobs=body.top_logprobs or 0,
        prompt_tokens=tokens,
    )
    session = StreamSession(engine, exchange, record, shape)
    try:
        choice, permit = _admit(engine, 0, text, tokens, parameters)
    except Refusal as refusal:
        session.begin([refusal])
    else:
        session.hold(permit)
        session.begin([choice])


def completions(engine: TgiEngine, exchange: Exchange) -> None:
    """POST /v1/completions, with one prompt or several."""
    body = engine.body(exchange, CompletionRequest)
    if body is None:
        return
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    record = engine.counted(exchange, 1 + len(prompts))
    refused = SUFFIX if body.suffix is not None else BATCH_TOO_LARGE if len(prompts) > MAX_CLIENT_BATCH_SIZE else None
    if refused is not None:
        engine.refuse(exchange, record, refused)
    elif body.stream:
        _completion_stream(engine, exchange, record, body, prompts)
    else:
        _completion_plain(engine, exchange, record, body, prompts)


def _completion_stream(
    engine: TgiEngine, exchange: Exchange, record: RequestTruth, body: CompletionRequest, prompts: list[str]
) -> None:
    prefix = _prefix(engine, "text_completion", body.model)
    shape = CompletionStreamShape(sum(map(len, prompts)), prefix)
    session = StreamSession(engine, exchange, record, shape, detached=True)
    choices: list[Choice | Refusal] = []
    parameters = body.parameters()
    for index, prompt in enumerate(prompts):
        try:
            choice, permit = _admit(engine, index, prompt, 1 + count_tokens(prompt), parameters)
        except Refusal as refusal:
            choices.append(refusal)
        else:
            session.hold_for(choice, permit)
            choices.append(choice)
    session.begin(choices)


def _completion_plain(
    engine: TgiEngine, exchange: Exchange, record: RequestTruth, body: CompletionRequest, prompts: list[str]
) -> None:
    timing = Timing(record.arrived_at, engine.clock, sum(map(len, prompts)))
    shape = CompletionShape(timing, _prefix(engine, "text_completion", body.model))
    parameters = body.parameters()
    admitted: list[tuple[Choice, Permit]] = []
    for index, prompt in enumerate(prompts):
        try:
            admitted.append(_admit(engine, index, prompt, 1 + count_tokens(prompt), parameters))
        except Refusal as refusal:
            # One that is refused takes the others with it.
            engine.give_back([permit for _, permit in admitted])
            engine.refuse(exchange, record, refusal)
            return
    session = PlainSession(engine, exchange, record, shape, permits=[permit for _, permit in admitted])
    session.begin([choice for choice, _ in admitted])


def _admit(
    engine: TgiEngine, index: int, text: str, tokens: int, parameters: GenerateParameters
) -> tuple[Choice, Permit]:
    (permit,) = engine.take_permits(1)
    try:
        tokens = engine.check(text, tokens, parameters)
    except Refusal:
        permit()
        raise
    return engine.tgi_choice(index, text, tokens, parameters), permit


def _prefix(engine: TgiEngine, kind: str, model: str | None) -> ReplyPrefix:
    # "tgi" is what clients write who do not care; any other name would be an adapter's, and is echoed.
    name = engine.model_id if model in (None, "tgi") else model
    return ReplyPrefix(kind, model_fields(name or ""), engine.wall_clock)
