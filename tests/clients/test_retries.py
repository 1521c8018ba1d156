"""Clients that try again do so when they are told to, and have their answer in the end; what can't be mended by it they
are told not to try again. All of it with the clients' default settings."""

from typing import Any

import pytest

from clients.attempts import Failed, Said
from clients.calls import Call, attempt
from clients.cases import Case, cases, told_apart
from clients.conftest import OpenDoors
from fairqueue_proxy.outcome import Outcome
from proxy_stack import key_of

PROMPT = "[[word=one]] Say something"

# Of Retry-After; by itself none of these clients waits longer than half a second before it tries again.
LEAST_SECONDS = 1
FULL = {"carol": Outcome.TENANT_QUEUE_FULL, "bob": Outcome.QUEUE_FULL}

TRYING = {
    "openai chat, 429": ("openai", "chat", "carol"),
    "openai chat stream, 503": ("openai", "chat stream", "bob"),
    "openai response stream, 429": ("openai", "response stream", "carol"),
    "openai async chat stream, 503": ("openai", "async chat stream", "bob"),
    "anthropic message, 429": ("anthropic", "message", "carol"),
    "anthropic message stream, 503": ("anthropic", "message stream", "bob"),
    "anthropic async message, 429": ("anthropic", "async message", "carol"),
}


# Each client, each refusal, a plain reply and a stream; `make test-long` has them all.
OFTEN = {"openai chat, 429", "anthropic message stream, 503"}


def _trying(name: str) -> Any:
    return pytest.param(name, marks=() if name in OFTEN else pytest.mark.long)


@pytest.mark.parametrize("trying", [_trying(name) for name in TRYING])
def test_refused_for_a_full_queue_it_waits_as_it_is_told_and_has_its_answer(doors: OpenDoors, trying: str) -> None:
    client, name, tenant = TRYING[trying]
    at, call = doors("vllm"), Call(client, name)
    door = at["usual"]
    before = len(door.log.of(tenant))
    with door.occupied(tenant, waiting=1 if tenant == "bob" else 0) as leave:
        door.leaves_when_refused(leave, tenant, FULL[tenant])
        said = attempt(call, door.url, key_of(tenant), PROMPT)
    assert isinstance(said, Said), said
    assert said == attempt(call, at.direct, key_of(tenant), PROMPT)
    door.wait(lambda: len(door.log.of(tenant)) == before + 2)
    refused, answered = door.log.of(tenant)[before:]
    assert [refused["outcome"], answered["outcome"]] == [FULL[tenant].value, "completed"]
    assert answered["ended_at"] - answered["seconds"] - refused["ended_at"] >= LEAST_SECONDS - 0.001


@cases(lambda case: told_apart(case) and not case.call.asynchronous)
def test_what_waited_too_long_is_not_tried_again(doors: OpenDoors, case: Case) -> None:
    door = doors(case.kind)["hasty"]
    before = len(door.log.of("bob"))
    with door.occupied("bob"):
        assert isinstance(attempt(case.call, door.url, key_of("bob"), PROMPT), Failed)
    assert [line["outcome"] for line in door.log.of("bob")[before:]] == ["queue_timeout"]


@cases(lambda case: told_apart(case) and case.kind == "tgi" and not case.call.streams)
def test_clients_that_never_try_again_leave_it_to_their_user(doors: OpenDoors, case: Case) -> None:
    door = doors("tgi")["usual"]
    before = len(door.log.of("carol"))
    with door.occupied("carol"):
        assert isinstance(attempt(case.call, door.url, key_of("carol"), PROMPT), Failed)
    assert [line["outcome"] for line in door.log.of("carol")[before:]] == ["tenant_queue_full"]
