"""Whatever an engine sends, no meter raises, and what it does not understand reaches the client untouched."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_proxy.metering import (
    InputOnlyMeter,
    LlamaNativeMeter,
    LlamaOpenAiMeter,
    MessagesMeter,
    Meter,
    OpaquePiece,
    OpenAiMeter,
    OtherMeter,
    ResponsesMeter,
    SglangMeter,
    SglangNativeMeter,
    TgiChatMeter,
    TgiCompletionsMeter,
    TgiNativeMeter,
    TgiVertexMeter,
    VllmMeter,
)
from metering.recorded import Exchange, exchange
from metering.stand_ins import STAND_INS

METERS: dict[str, Callable[[], Meter]] = {
    "tgi native": lambda: TgiNativeMeter(best_of=2, strip_details=True),
    "tgi chat": lambda: TgiChatMeter(strip_usage=True),
    "tgi completions": lambda: TgiCompletionsMeter(prompts=2),
    "llama openai": lambda: LlamaOpenAiMeter(prompts=2, strip_timings=True),
    "llama native": lambda: LlamaNativeMeter(2, strip_fields=("index", "timings")),
    "openai": lambda: OpenAiMeter(strip_usage=True),
    "vllm": lambda: VllmMeter(sequences=2, strip_chunks=True, strip_end=False),
    "sglang": lambda: SglangMeter(sequences=2, strip_chunks=True, strip_end=True, null_usage=True),
    "sglang native": lambda: SglangNativeMeter(2),
    "responses": lambda: ResponsesMeter(strip_timings=True),
    "messages": MessagesMeter,
    "input only": InputOnlyMeter,
    "vertex": TgiVertexMeter,
}
RECORDED = {
    "tgi native": ("tgi", "03-stream-details"),
    "tgi chat": ("tgi", "13-chat-tools-stream"),
    "tgi completions": ("tgi", "05-completions-stream-two-prompts"),
    "llama openai": ("llamacpp", "02-completions-stream-two-prompts"),
    "llama native": ("llamacpp", "03-native-stream-two-prompts"),
    "openai": ("llamacpp", "01-chat-stream-usage"),
    "vllm": ("vllm", "02-completions-stream-n2"),
    "sglang": ("stand-in", "sglang completions"),
    "sglang native": ("stand-in", "sglang native"),
    "responses": ("llamacpp", "04-responses-stream-timings"),
    "messages": ("vllm", "03-ngram-messages-stream"),
    "input only": ("vllm", "02-completions-stream-n2"),
    "vertex": ("vllm", "02-completions-stream-n2"),
}
PLAIN = {
    "tgi native": ("tgi", "01-generate-best-of"),
    "tgi chat": ("tgi", "13-chat-tools-plain"),
    "tgi completions": ("tgi", "05-completions-plain-two-prompts"),
    "llama openai": ("llamacpp", "01-chat-plain-n2"),
    "llama native": ("llamacpp", "03-native-plain"),
    "openai": ("llamacpp", "01-chat-plain"),
    "vllm": ("vllm", "01-chat-plain-n2"),
    "sglang": ("stand-in", "sglang chat plain"),
    "sglang native": ("stand-in", "sglang native plain"),
    "responses": ("llamacpp", "04-responses-plain"),
    "messages": ("llamacpp", "04-messages-plain"),
    "input only": ("stand-in", "rerank"),
    "vertex": ("tgi", "14-vertex"),
}

mutations = st.lists(
    st.tuples(
        st.integers(0, 5000), st.integers(0, 8), st.sampled_from([b"", b'"', b"-", b"null", b"[", b"9" * 30, b"}"])
    ),
    min_size=1,
    max_size=3,
)


def _exchange(engine: str, case: str) -> Exchange:
    return STAND_INS[case].exchange(engine, "/") if engine == "stand-in" else exchange(engine, case)


def _events(name: str) -> list[bytes]:
    """The events of a recorded stream, or of several HTTP chunks of it."""
    return [event + b"\n\n" for event in _exchange(*RECORDED[name]).reply.split(b"\n\n")[:-1]]


def _mutated(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for at, dropped, inserted in changes:
        begin = at % (len(data) + 1)
        data = data[:begin] + inserted + data[begin + dropped :]
    return data


def _check(meter: Meter, given_bytes: bytes, returned: bytes, malformed_before: int) -> None:
    usage = meter.usage
    if usage.malformed_events > malformed_before:
        assert returned == given_bytes
    assert usage.output_tokens >= 0
    assert usage.counted_tokens >= 0
    assert usage.prompt_tokens is None or usage.prompt_tokens >= usage.cached_tokens >= 0


@pytest.mark.parametrize("name", METERS)
@given(data=st.data(), changes=mutations)
def test_damaged_events_never_raise(name: str, data: st.DataObject, changes: list[tuple[int, int, bytes]]) -> None:
    chunks = _events(name)
    meter = METERS[name]()
    for chunk in [*data.draw(st.lists(st.sampled_from(chunks), max_size=4)), _mutated(chunks[-2], changes)]:
        malformed = meter.usage.malformed_events
        _check(meter, chunk, meter.event(chunk), malformed)


@pytest.mark.parametrize("name", METERS)
@given(changes=mutations, status=st.sampled_from([200, 424, 500]))
def test_damaged_plain_replies_never_raise(name: str, changes: list[tuple[int, int, bytes]], status: int) -> None:
    recorded = _exchange(*PLAIN[name])
    body = _mutated(recorded.reply, changes)
    meter = METERS[name]()
    meter.head(status, recorded.headers)
    _check(meter, body, meter.body(body), 0)


@pytest.mark.parametrize("name", METERS)
@given(event=st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(lambda data: b"data: " + data + b"\n\n")))
def test_random_bytes_pass_untouched(name: str, event: bytes) -> None:
    meter = METERS[name]()
    assert meter.event(event) == event
    assert meter.body(event) == event
    assert meter.usage.output_tokens == 0


@pytest.mark.parametrize("name", METERS)
@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"5", id="a number"),
        pytest.param(b"{}", id="an empty object"),
        pytest.param(b"[" * 100_000, id="deep nesting"),
        pytest.param(b'{"choices":[{"index":-1}],"token":1}', id="a negative index"),
        pytest.param(b'{"error":', id="a cut error"),
        pytest.param(b'{"error":{"message":5}}', id="an error of a wrong type"),
        pytest.param(b'{"choices":[],"usage":{"prompt_tokens":1e99,"completion_tokens":1}}', id="absurd usage"),
        pytest.param(b'{"choices":[{"text":"\xff"}', id="no UTF-8"),
    ],
)
def test_events_of_unexpected_shape_are_counted_and_pass_untouched(name: str, payload: bytes) -> None:
    meter = METERS[name]()
    event = b"data: " + payload + b"\n\n"
    assert meter.event(event) == event
    assert meter.usage.malformed_events == 1
    assert meter.usage.output_tokens == 0


def test_an_event_that_cannot_be_rewritten_is_passed_on_uncounted() -> None:
    meter = METERS["tgi native"]()
    event = b'data: {"token":{"id":1},"details":{"generated_tokens":1,"input_length":2},"\xff":1}\n\n'
    assert meter.event(event) == event
    assert (meter.usage.malformed_events, meter.usage.output_tokens) == (1, 0)


@pytest.mark.parametrize("name", METERS)
def test_opaque_pieces_comments_and_null_events_are_not_looked_into(name: str) -> None:
    meter = METERS[name]()
    piece = OpaquePiece(_events(name)[1])
    assert meter.event(piece) == piece
    assert meter.usage.malformed_events == 1
    for event in (b":\n\n", b"data: null\n\n", b"event: ping\n\n", b"data: [DONE]\n\n"):
        assert meter.event(event) == event
    assert (meter.usage.malformed_events, meter.usage.output_tokens) == (1, 0)


@given(data=st.binary(max_size=80), is_event=st.booleans())
def test_an_unknown_route_may_reply_with_anything(data: bytes, is_event: bool) -> None:
    meter = OtherMeter()
    given_bytes = b"data: " + data + b"\n\n" if is_event else data
    assert meter.event(given_bytes) == given_bytes
    assert meter.body(given_bytes) == given_bytes
    assert meter.usage.malformed_events <= 1
