"""Every metered route of every engine, streamed and plain: the client gets the engine's bytes, the charge is its count.

Recorded replies where there are any, else a stand-in (`stand_ins`). A route missing here fails a test.
"""

import random
from dataclasses import dataclass, replace

import pytest

from fairqueue_proxy.engines import Call, engine_for
from fairqueue_proxy.metering import EventSplitter, Usage
from metering.normalised import normalised
from metering.recorded import Exchange, exchange, replay
from metering.stand_ins import STAND_INS


@dataclass(frozen=True)
class Covered:
    """What covers a route in one of its two forms: a stand-in, or a recording, and what the client alone would get."""

    kind: str
    path: str
    asked: str
    wanted: str | None = None
    recorded_from: str | None = None

    @property
    def id(self) -> str:
        return f"{self.kind} {self.path} {self.asked} {self.wanted or ''}".strip()


# kind -> path -> cases: "asked" or ("asked", "wanted"); stand-ins by their names; "engine:case" of another engine.
ROUTES: dict[str, dict[str, list[str | tuple[str, str]]]] = {
    "TGI": {
        "/": ["02-root-plain", ("02-root-stream-details", "02-root-stream")],
        "/generate": ["01-generate-plain"],
        "/generate_stream": [("03-stream-details", "03-stream-plain")],
        "/v1/chat/completions": ["04-chat-plain", ("04-chat-stream-usage", "04-chat-stream")],
        "/v1/completions": ["05-completions-plain-two-prompts", "05-completions-stream-two-prompts"],
        "/vertex": ["14-vertex"],
        "/invocations": ["14-invocations-native", ("04-chat-stream-usage", "14-invocations-chat-stream")],
    },
    "VLLM": {
        "/v1/chat/completions": [
            "01-chat-plain-n2",
            ("01-chat-stream-continuous-usage", "01-chat-stream"),
            ("01-chat-stream-continuous-usage", "01-chat-stream-usage"),
        ],
        "/v1/chat/completions/batch": ["04-chat-batch"],
        "/v1/completions": [
            "02-completions-plain-six-prompts",
            ("02-completions-stream-continuous-usage", "02-completions-stream"),
            ("02-completions-stream-continuous-usage", "02-completions-stream-usage"),
        ],
        "/v1/responses": ["04-responses-plain", "04-responses-stream"],
        "/v1/messages": ["04-messages-plain", "04-messages-stream"],
        "/invocations": ["01-chat-plain", ("01-chat-stream-forced-usage", "04-invocations-chat-stream")],
        "/v1/embeddings": ["embeddings of two"],
        "/pooling": ["embeddings"],
        "/classify": ["embeddings"],
        "/score": ["score"],
        "/v1/score": ["score"],
        "/rerank": ["rerank"],
        "/v1/rerank": ["rerank"],
        "/v2/rerank": ["rerank"],
        "/generative_scoring": ["04-generative-scoring"],
    },
    "SGLang": {
        "/generate": ["sglang native", "sglang native plain"],
        "/v1/chat/completions": ["sglang chat", "sglang chat plain"],
        "/v1/completions": ["sglang completions", "sglang completions plain"],
        "/v1/responses": ["responses", "responses plain"],
        "/v1/messages": ["messages", "messages plain"],
        "/v1/embeddings": ["embeddings"],
        "/v1/classify": ["embeddings"],
        "/v1/rerank": ["ranked without usage"],
        "/v1/score": ["score"],
    },
    "LlamaCpp": {
        "/completion": ["03-native-plain", "03-native-stream-two-prompts"],
        "/completions": ["03-native-plain", "03-native-stream"],
        "/infill": ["03-native-plain", "03-native-stream"],
        "/v1/completions": ["02-completions-plain-n2", ("02-completions-stream-timings", "02-completions-stream")],
        "/chat/completions": ["01-chat-plain", ("01-chat-stream-timings", "01-chat-stream")],
        "/v1/chat/completions": ["01-chat-plain-n2", ("01-chat-stream-timings", "01-chat-stream")],
        "/responses": ["04-responses-plain", ("04-responses-stream-timings", "04-responses-stream")],
        "/v1/responses": ["04-responses-plain", ("04-responses-stream-timings", "04-responses-stream")],
        "/v1/messages": ["04-messages-plain", "04-messages-stream"],
        "/embedding": ["llama.cpp embedding"],
        "/embeddings": ["llama.cpp embedding"],
        "/v1/embeddings": ["embeddings"],
        "/rerank": ["rerank"],
        "/reranking": ["rerank"],
        "/v1/rerank": ["rerank"],
        "/v1/reranking": ["rerank"],
    },
    "OpenAI": {
        "/v1/chat/completions": ["vllm:01-chat-plain-n2", "openai chat"],
        "/v1/completions": ["vllm:02-completions-plain", "openai completions"],
        "/v1/responses": ["vllm:04-responses-plain", "responses", "vllm:03-ngram-responses-stream"],
        "/v1/messages": ["vllm:04-messages-plain", "messages", "vllm:11-messages-stream-tool"],
        "/v1/embeddings": ["embeddings"],
    },
}

# prompt and output tokens as the engine counts them; those of stand-ins are beside them.
COUNTS = {
    "01-generate-plain": (6, 5),
    "02-root-plain": (6, 3),
    "02-root-stream-details": (6, 3),
    "03-stream-details": (6, 5),
    "04-chat-plain": (20, 4),
    "04-chat-stream-usage": (20, 4),
    "05-completions-plain-two-prompts": (18, 6),
    "05-completions-stream-two-prompts": (18, 6),
    "14-vertex": (None, 3),
    "14-invocations-native": (6, 3),
    "01-chat-plain": (11, 8),
    "01-chat-plain-n2": (22, 16),
    "01-chat-stream-continuous-usage": (11, 8),
    "01-chat-stream-forced-usage": (11, 3),
    "02-completions-plain": (2, 8),
    "02-completions-plain-six-prompts": (6, 18),
    "02-completions-stream-continuous-usage": (2, 8),
    "03-ngram-responses-stream": (6, 20),
    "04-chat-batch": (22, 8),
    "04-generative-scoring": (16, 2),
    "04-responses-plain": (6, 8),
    "04-responses-stream": (6, 8),
    "04-messages-plain": (11, 8),
    "04-messages-stream": (11, 8),
    "11-messages-stream-tool": (11, 51),
}
LLAMA_COUNTS = {
    "01-chat-plain": (41, 12),
    "01-chat-plain-n2": (82, 24),
    "01-chat-stream-timings": (41, 12),
    "02-completions-plain-n2": (10, 24),
    "02-completions-stream-timings": (5, 12),
    "03-native-plain": (5, 8),
    "03-native-stream": (5, 8),
    "03-native-stream-two-prompts": (10, 8),
    "04-responses-plain": (37, 8),
    "04-responses-stream-timings": (37, 8),
    "04-messages-plain": (41, 8),
    "04-messages-stream": (41, 8),
}

FOLDERS = {"TGI": "tgi", "VLLM": "vllm", "LlamaCpp": "llamacpp"}


def _all() -> list[Covered]:
    found = []
    for kind, paths in ROUTES.items():
        for path, cases in paths.items():
            for case in cases:
                asked, wanted = case if isinstance(case, tuple) else (case, None)
                folder, _, name = asked.rpartition(":")
                found.append(Covered(kind, path, name, wanted, folder or FOLDERS.get(kind)))
    return found


def _asked(covered: Covered) -> Exchange:
    stand_in = STAND_INS.get(covered.asked)
    if stand_in is not None:
        return stand_in.exchange("vllm", covered.path)
    assert covered.recorded_from is not None
    return replace(exchange(covered.recorded_from, covered.asked), path=covered.path)


COVERED = [pytest.param(each, id=each.id) for each in _all()]
STREAMED = [pytest.param(each, id=each.id) for each in _all() if _asked(each).is_stream]


def _wanted(covered: Covered) -> tuple[bytes, bytes]:
    """What the client sends, and what it would get without a proxy."""
    if covered.asked in STAND_INS:
        return _asked(covered).request, STAND_INS[covered.asked].wanted
    case = covered.wanted or covered.asked
    alone = exchange(covered.recorded_from or "", case)
    return alone.request, alone.reply


def _call(covered: Covered) -> Call:
    engine = engine_for(covered.kind)
    return engine.parse(engine.route("POST", covered.path), _wanted(covered)[0])


def _counts(covered: Covered) -> tuple[int | None, int]:
    stand_in = STAND_INS.get(covered.asked)
    if stand_in is not None:
        return stand_in.prompt, stand_in.output
    return (LLAMA_COUNTS if covered.kind == "LlamaCpp" else COUNTS)[covered.asked]


def test_every_metered_route_is_covered() -> None:
    assert ROUTES.keys() == {"TGI", "VLLM", "SGLang", "LlamaCpp", "OpenAI"}
    for kind, paths in ROUTES.items():
        assert paths.keys() == engine_for(kind).metered_paths


@pytest.mark.parametrize("covered", COVERED)
def test_the_charge_is_the_engines_own_count(covered: Covered) -> None:
    usage = _replayed(covered)[1]
    assert (usage.prompt_tokens, usage.output_tokens) == _counts(covered)
    assert usage.malformed_events == 0
    assert usage.error is None
    assert usage.final == (covered.path != "/vertex")


@pytest.mark.parametrize("covered", COVERED)
def test_the_client_gets_the_bytes_that_the_engine_sends_without_what_was_asked_for(covered: Covered) -> None:
    passed_on, _ = _replayed(covered)
    _, alone = _wanted(covered)
    if covered.wanted is None:
        assert passed_on == alone
    elif covered.path == "/invocations":
        # Recorded with another output limit: the shape of each chunk is the same.
        assert _shapes(passed_on)[0] == _shapes(alone)[0]
        assert b'"usage":{' not in passed_on or b'"usage":{' in alone
    else:
        assert normalised(passed_on) == normalised(alone)


@pytest.mark.parametrize("covered", STREAMED)
def test_hung_up_after_some_events_the_charge_is_what_they_told(covered: Covered) -> None:
    asked = _asked(covered)
    events = EventSplitter().feed(asked.reply)
    prompt, output = _counts(covered)
    charged = []
    for kept in range(len(events) + 1):
        meter = _call(covered).meter()
        meter.head(200, asked.headers)
        for event in events[:kept]:
            meter.event(event)
        assert meter.usage.prompt_tokens in (None, prompt)
        charged.append(meter.usage.output_tokens)
    assert charged[0] == 0
    assert charged == sorted(charged)
    assert charged[-1] == output


def _replayed(covered: Covered) -> tuple[bytes, Usage]:
    meter = _call(covered).meter()
    passed_on = replay(_asked(covered), meter, cuts=random.Random(1))
    return passed_on, meter.usage


def _shapes(stream: bytes) -> list[list[bytes]]:
    return [[line.partition(b"{")[0] for line in event.split(b"\n")] for event in stream.split(b"\n\n") if event]
