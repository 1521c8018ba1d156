"""What the engine refuses, and what it breaks: a client raises through the proxy what it raises without it."""

import pytest

from clients.attempts import Failed
from clients.calls import Call, attempt
from clients.cases import Case, cases, told_apart
from clients.conftest import OpenDoors
from proxy_stack import key_of

KEY = key_of("alice")
TOO_LONG = "word " * 5000
FAILS = "[[word=one]][[fail=3]] Say something"
BREAKS_OFF = "[[word=one]][[die=3]] Say something"

# The words of the engines, and what the clients make of the statuses.
VALIDATION = {
    "tgi": "`inputs` tokens + `max_new_tokens` must be <= 4096",
    "vllm": "maximum context length is 4096 tokens",
}
FAILURES = {"tgi": "simulated failure", "vllm": "EngineCore encountered an issue"}


@cases(told_apart, async_seldom=True)
def test_what_the_engine_refuses_is_raised_as_the_engine_refused_it(doors: OpenDoors, case: Case) -> None:
    at = doors(case.kind)
    failed = attempt(case.call.once, at["usual"].url, KEY, TOO_LONG)
    assert isinstance(failed, Failed), failed
    assert VALIDATION[case.kind] in failed.message
    if case.kind == "vllm":
        assert (failed.kind, failed.status) == ("BadRequestError", 400)
    elif case.native:
        assert failed.kind == "ValidationError"
    assert failed == attempt(case.call.once, at.direct, KEY, TOO_LONG)


@cases(lambda case: told_apart(case) and case.call.name != "response stream", async_seldom=True)
def test_an_engine_that_fails_is_raised_as_it_said_it_and_after_what_it_said(doors: OpenDoors, case: Case) -> None:
    at = doors(case.kind)
    failed = attempt(case.call.once, at["usual"].url, KEY, FAILS)
    assert isinstance(failed, Failed), failed
    # vLLM's messages are made from chat, and what went wrong there is not what it tells.
    if not (case.client == "anthropic" and case.call.streams):
        assert FAILURES[case.kind] in failed.message
    if case.call.streams:
        assert failed.status in (None, 200)
        assert failed.said == ("" if "helper" in case.call.name else " one one")
    elif case.native:
        assert failed.kind == "GenerationError"
    else:
        assert failed.status == (424 if case.kind == "tgi" else 500)
    assert failed == attempt(case.call.once, at.direct, KEY, FAILS)


@cases(lambda case: told_apart(case) and case.call.streams, async_seldom=True)
def test_an_engine_that_breaks_off_is_raised_and_never_taken_for_the_end(doors: OpenDoors, case: Case) -> None:
    """The proxy says it in the route's own words; without it there is a broken connection, or not even that."""
    failed = attempt(case.call.once, doors(case.kind)["usual"].url, KEY, BREAKS_OFF)
    assert isinstance(failed, Failed), failed
    assert "the engine closed the connection in the middle of its reply" in failed.message
    assert failed.said == ("" if "helper" in case.call.name else " one one")
    expected = {
        "openai": ("APIError", None),
        "anthropic": ("APIStatusError", 200),
        "huggingface_hub": ("GenerationError", None),
        "text-generation": ("GenerationError", None),
    }
    assert (failed.kind, failed.status) == expected[case.client]


@pytest.mark.parametrize("name", ["chat stream", "async chat stream"])
def test_the_chat_stream_that_fails_on_tgi_itself_fails_alike(doors: OpenDoors, name: str) -> None:
    """text-generation can't read TGI's chunks and [DONE]; that is not the proxy's."""
    at, call = doors("tgi"), Call("text-generation", name)
    failed = attempt(call, at["usual"].url, KEY, "[[word=one]] Say something")
    assert isinstance(failed, Failed), failed
    assert failed == attempt(call, at.direct, KEY, "[[word=one]] Say something")
