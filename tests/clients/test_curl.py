"""curl in front of every kind of engine, as people try things out."""

import json
from pathlib import Path
from typing import Any

import pytest

from clients.attempts import MODEL, plain
from clients.cases import KINDS
from clients.conftest import OpenDoors
from clients.curl_calls import curl
from clients.doors import BODY_LIMIT_BYTES
from fairqueue_proxy import dispatcher
from fairqueue_proxy.outcome import Outcome
from fairqueue_sim import EngineKind
from proxy_stack import key_of

KEY = key_of("alice")
HELLO = "[[eos=20]][[utf8=1]] Say hello"
TEXT = " h\u00e9llo \u65e5\u672c \U0001f600"
FAILS = "[[word=one]][[fail=3]] Say something"

CHAT = "/v1/chat/completions"


def chat(prompt: str, **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "max_tokens": 24, **fields}


def text_of(events: list[Any]) -> str:
    chunks = [event for event in events if isinstance(event, dict) and event.get("choices")]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
def test_a_plain_reply_is_the_engines(doors: OpenDoors, kind: EngineKind) -> None:
    at = doors(kind)
    curled = curl(at["usual"].url + CHAT, KEY, chat(HELLO))
    assert (curled.exit_code, curled.status, curled.content_type) == (0, 200, "application/json")
    assert curled.json["choices"][0]["message"]["content"] == TEXT
    assert curled.json["usage"]["completion_tokens"] == 20
    assert plain(curled.json) == plain(curl(at.direct + CHAT, KEY, chat(HELLO)).json)


@kinds
def test_a_stream_is_the_engines_and_ends_as_it_ends(doors: OpenDoors, kind: EngineKind) -> None:
    at = doors(kind)
    curled = curl(at["usual"].url + CHAT, KEY, chat(HELLO, stream=True))
    assert (curled.exit_code, curled.status, text_of(curled.events)) == (0, 200, TEXT)
    direct = curl(at.direct + CHAT, KEY, chat(HELLO, stream=True))
    assert curled.content_type == direct.content_type
    assert (curled.events[-1], direct.events[-1], text_of(direct.events)) == ("[DONE]", "[DONE]", TEXT)
    # Nothing in between but what the engine sent: here comments would be seen.
    assert ":\n" not in curled.body


def test_tgis_own_routes_are_byte_for_byte_the_engines(doors: OpenDoors) -> None:
    at = doors("tgi")
    body = {"inputs": HELLO, "parameters": {"max_new_tokens": 24}}
    for path in ("/", "/generate", "/generate_stream"):
        curled = curl(at["usual"].url + path, KEY, body)
        assert curled.status == 200
        assert curled.body == curl(at.direct + path, KEY, body).body


@kinds
def test_the_engines_errors_are_byte_for_byte_the_engines(doors: OpenDoors, kind: EngineKind) -> None:
    at = doors(kind)
    # Wrong for every engine; refused by it, or after the head of a stream.
    for body in (chat("word " * 5000), chat("word " * 5000, stream=True), chat(FAILS), b'{"model":"tiny"}'):
        curled, direct = curl(at["usual"].url + CHAT, KEY, body), curl(at.direct + CHAT, KEY, body)
        assert (curled.status, curled.content_type, curled.body) == (direct.status, direct.content_type, direct.body)
        assert curled.status >= 400 or "error" in curled.events[0]


@kinds
def test_an_error_in_a_stream_comes_after_what_was_said(doors: OpenDoors, kind: EngineKind) -> None:
    at = doors(kind)
    curled, direct = (curl(url + CHAT, KEY, chat(FAILS, stream=True)) for url in (at["usual"].url, at.direct))
    assert (curled.exit_code, curled.status, text_of(curled.events)) == (0, 200, " one one")
    errors = [[event for event in reply.events if "error" in event] for reply in (curled, direct)]
    assert errors[0]
    assert errors[0] == errors[1]


def test_refusals_have_a_status_a_reason_and_for_those_who_may_come_again_a_time(
    doors: OpenDoors, tmp_path: Path
) -> None:
    door = doors("tgi")["usual"]
    head = tmp_path / "head"

    def refused(tenant: str, body: object, path: str = CHAT) -> tuple[int, str, bool]:
        curled = curl(door.url + path, key_of(tenant), body, "--dump-header", str(head))
        assert (curled.exit_code, curled.content_type.partition(";")[0]) == (0, "application/json")
        return curled.status, curled.json["error"]["reason"], "retry-after: 1\n" in head.read_text().lower()

    assert refused("nobody", chat("x")) == (401, "unauthenticated", False)
    assert refused("alice", chat("x"), "/nowhere") == (403, "forbidden_route", False)
    # Larger than a megabyte, curl asks first whether it may send it.
    assert refused("alice", chat("x" * BODY_LIMIT_BYTES)) == (413, "too_large", False)
    assert refused("alice", chat("x" * 2_000_000)) == (413, "too_large", False)
    with door.occupied("carol"):
        assert refused("carol", chat("x")) == (429, "tenant_queue_full", True)


def test_whoever_asks_first_whether_a_body_may_be_sent_is_told_to_go_on(doors: OpenDoors) -> None:
    curled = curl(doors("tgi")["usual"].url + CHAT, KEY, chat(HELLO), "--header", "Expect: 100-continue")
    assert (curled.status, curled.json["choices"][0]["message"]["content"]) == (200, TEXT)


@pytest.mark.long
@pytest.mark.parametrize("outcome", [Outcome.TENANT_QUEUE_FULL, Outcome.QUEUE_FULL], ids=["429", "503"])
def test_with_retry_it_waits_as_it_is_told_and_has_its_answer(
    doors: OpenDoors, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = doors("vllm")["usual"]
    # By itself curl comes again after one second.
    monkeypatch.setattr(dispatcher, "retry_after_seconds", lambda *_: 2)
    tenant, waiting = ("carol", 0) if outcome is Outcome.TENANT_QUEUE_FULL else ("bob", 1)
    before = len(door.log.of(tenant))
    with door.occupied(tenant, waiting=waiting) as leave:
        door.leaves_when_refused(leave, tenant, outcome)
        curled = curl(door.url + CHAT, key_of(tenant), chat(HELLO), "--retry", "3", "--fail")
    assert (curled.exit_code, curled.status) == (0, 200)
    assert json.loads(curled.body)["choices"][0]["message"]["content"] == TEXT
    door.wait(lambda: len(door.log.of(tenant)) == before + 2)
    refused, answered = door.log.of(tenant)[before:]
    assert [refused["outcome"], answered["outcome"]] == [outcome.value, "completed"]
    assert answered["ended_at"] - answered["seconds"] - refused["ended_at"] >= 1.999


def test_who_waits_sees_comments_and_then_the_engines_stream(doors: OpenDoors) -> None:
    door = doors("vllm")["early"]
    with door.occupied("bob") as leave:
        door.leaves_when_waited_for(leave, "bob", early=True)
        curled = curl(door.url + CHAT, key_of("bob"), chat(HELLO, stream=True))
    assert (curled.status, text_of(curled.events), curled.events[-1]) == (200, TEXT, "[DONE]")
    comments, _, rest = curled.body.partition("data:")
    assert comments.startswith(":\n\n:\n\n:\n\n")
    assert ": x-fairqueue-queue-seconds: " in comments
    assert ":\n" not in rest


def test_who_waited_too_long_is_told_by_status_or_by_an_event(doors: OpenDoors) -> None:
    told = {"message": "waited longer than 0.05 s for the engine", "type": "timeout_error", "code": 504}
    with doors("vllm")["hasty"].occupied("bob"):
        curled = curl(doors("vllm")["hasty"].url + CHAT, key_of("bob"), chat("x", stream=True))
    assert (curled.status, curled.json["error"]) == (504, {**told, "reason": "queue_timeout"})
    with doors("vllm")["early and hasty"].occupied("bob"):
        curled = curl(doors("vllm")["early and hasty"].url + CHAT, key_of("bob"), chat("x", stream=True))
    assert (curled.status, curled.events[0]["error"]["reason"]) == (200, "queue_timeout")
    assert curled.events[1:] == ["[DONE]"]
