"""Clients' read time-outs against a wait in the queue: comments keep a stream alive, a plain reply nothing can."""

from pathlib import Path

import pytest

from clients.attempts import Failed, Said
from clients.background import Background
from clients.calls import Call, attempt, attempt_all
from clients.conftest import OpenDoors
from clients.doors import Door, Lines
from fairqueue_sim import EngineKind, running_engine
from proxy_stack import key_of, running_proxy

PROMPT = "[[eos=20]][[utf8=1]] Say hello"
TEXT = " h\u00e9llo \u65e5\u672c \U0001f600"
KEY = key_of("bob")

# The read time-out of each client here, and how long a stream waits.
SECONDS = 1.0
WAIT_SECONDS = 1.3


def impatient(client: str, name: str) -> Call:
    """A client that gives up after a second without a byte, and for good."""
    return Call(client, name, settings={"timeout": SECONDS}).once


STREAMS: dict[EngineKind, list[Call]] = {
    "vllm": [
        impatient("openai", "chat stream"),
        impatient("anthropic", "message stream"),
        impatient("huggingface_hub", "chat stream"),
    ],
    "tgi": [impatient("text-generation", "generate stream")],
}


@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_outlives_a_wait_longer_than_its_read_time_out(doors: OpenDoors, kind: EngineKind) -> None:
    door, calls = doors(kind)["early"], STREAMS[kind]
    with door.occupied("bob") as leave:
        door.leaves_when_waited_for(leave, "bob", early=True, many=len(calls), seconds=WAIT_SECONDS)
        for said in attempt_all(calls, door.url, KEY, PROMPT):
            assert isinstance(said, Said), said
            assert said.text == TEXT


GIVING_UP: dict[EngineKind, tuple[list[Call], list[str]]] = {
    "vllm": (
        [impatient("openai", "chat"), impatient("anthropic", "message"), impatient("huggingface_hub", "chat")],
        ["APITimeoutError", "APITimeoutError", "InferenceTimeoutError"],
    ),
    # The async client's time-out is for the whole call, whatever comes meanwhile.
    "tgi": (
        [impatient("text-generation", "generate"), impatient("text-generation", "async generate stream")],
        ["ReadTimeout", "TimeoutError"],
    ),
}


@pytest.mark.parametrize("kind", ["vllm", pytest.param("tgi", marks=pytest.mark.long)])
def test_a_plain_call_and_one_with_a_total_time_out_end_with_it(doors: OpenDoors, kind: EngineKind) -> None:
    door, (calls, expected) = doors(kind)["early"], GIVING_UP[kind]
    before = len(door.log.of("bob"))
    with door.occupied("bob"):
        came = attempt_all(calls, door.url, KEY, PROMPT)
        assert [failed.kind if isinstance(failed, Failed) else failed for failed in came] == expected
        # Whoever has given up is not kept in the queue.
        door.wait(lambda: len(door.log.of("bob")) == before + len(calls))
    assert {line["outcome"] for line in door.log.of("bob")[before:]} == {"client_gone"}


def test_the_defaults_are_what_the_page_says(doors: OpenDoors) -> None:
    url = doors("tgi").direct

    def defaults(client: str) -> object:
        said = attempt(Call(client, "defaults"), url, KEY, "")
        assert isinstance(said, Said), said
        return said.whole

    # Seconds to connect and to the next byte, and how often it tries again.
    assert defaults("openai") == [5, 600, 2]
    assert defaults("anthropic") == [5, 600, 2]
    # None, and none of the session that all its clients share.
    assert defaults("huggingface_hub") == [None, None]
    # To the next byte; and for the whole call.
    assert defaults("text-generation") == [10, 10]


@pytest.mark.long
def test_with_all_defaults_text_generations_stream_outlives_twelve_seconds_and_its_plain_call_does_not(
    tmp_path: Path, log: Lines
) -> None:
    """Ten seconds is the shortest default time-out there is; comments come after five seconds, and then every five."""
    tenants = [{"name": "bob", "limits": {"maxInFlight": 1}}]
    plain, stream = Call("text-generation", "generate"), Call("text-generation", "generate stream")
    with Background() as background:
        engine = background.enter(running_engine("tgi"))
        door = Door(background, background.enter(running_proxy(tmp_path, engine.port, tenants=tenants)), log)
        with door.occupied("bob") as leave:
            failed = attempt(plain, door.url, KEY, PROMPT)
            assert isinstance(failed, Failed), failed
            assert failed.kind == "ReadTimeout"
            door.leaves_when_waited_for(leave, "bob", early=True, seconds=7)
            said = attempt(stream, door.url, KEY, PROMPT)
        assert said == attempt(stream, door.url, KEY, PROMPT)
        answered = [line for line in log.of("bob") if line["outcome"] == "completed"]
        assert answered[0]["queue_seconds"] > 11.9


@pytest.mark.long
@pytest.mark.parametrize(("client", "name"), [("openai", "chat"), ("anthropic", "message")])
def test_a_client_that_tries_again_after_a_time_out_of_its_own_waits_anew(
    doors: OpenDoors, client: str, name: str
) -> None:
    door = doors("vllm")["early"]
    before = len(door.log.of("bob"))
    with door.occupied("bob"):
        failed = attempt(Call(client, name, settings={"timeout": SECONDS}), door.url, KEY, PROMPT)
        assert isinstance(failed, Failed), failed
        assert failed.kind == "APITimeoutError"
        door.wait(lambda: len(door.log.of("bob")) == before + 3)
    assert [line["outcome"] for line in door.log.of("bob")[before:]] == ["client_gone"] * 3
