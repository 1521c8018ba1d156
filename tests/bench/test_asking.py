"""Requests that are drawn: the same from the same seed, and as long as they are to be."""

import json
from typing import Any

import pytest

from fairqueue_sim.steering import parse_steering
from fairqueue_sim.tokenizer import CHAT_TEMPLATE_TOKENS, MESSAGE_TOKENS, count_tokens
from socket_bench.asking import Asking
from socket_bench.cells import EngineName, Requests

LENGTHS = Requests(prompt_tokens=(40, 90), output_tokens=(5, 20))


def body_of(request: bytes) -> dict[str, Any]:
    head, _, body = request.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head
    return dict(json.loads(body))


def test_the_same_seed_asks_for_the_same() -> None:
    one, same, other = (Asking("tgi", LENGTHS, seed) for seed in ("a", "a", "b"))
    asked = [one.next("key") for _ in range(3)]
    assert [same.next("key") for _ in range(3)] == asked
    assert [other.next("key") for _ in range(3)] != asked
    assert b"\r\nauthorization: Bearer key\r\n" in asked[0]


@pytest.mark.parametrize("kind", ["tgi", "vllm"])
@pytest.mark.parametrize("allowed", [None, 100])
def test_prompts_are_exactly_as_long_as_drawn(kind: EngineName, allowed: int | None) -> None:
    requests = Requests(prompt_tokens=(60, 60), output_tokens=(7, 7), allowed_tokens=allowed, merge=4)
    body = body_of(Asking(kind, requests, "seed").next("key"))
    text = body["inputs"] if kind == "tgi" else body["messages"][0]["content"]
    template = 1 if kind == "tgi" else MESSAGE_TOKENS + CHAT_TEMPLATE_TOKENS
    assert count_tokens(text) + template == 60
    assert parse_steering(text).merge == 4


def test_an_output_ends_at_its_limit_or_by_itself_before_it() -> None:
    at_limit = body_of(Asking("openai", LENGTHS, "seed").next("key"))
    assert parse_steering(at_limit["messages"][0]["content"]).eos is None
    assert 5 <= at_limit["max_tokens"] <= 20
    requests = Requests(prompt_tokens=(40, 40), output_tokens=(5, 20), allowed_tokens=512)
    by_itself = body_of(Asking("openai", requests, "seed").next("key"))
    assert by_itself["max_tokens"] == 512
    assert 5 <= (parse_steering(by_itself["messages"][0]["content"]).eos or 0) <= 20


def test_one_that_has_begun_asks_for_what_is_left() -> None:
    requests = Requests(prompt_tokens=(40, 40), output_tokens=(100, 100))
    asking = Asking("tgi", requests, "seed")
    left = {body_of(asking.next("key", begun=True))["parameters"]["max_new_tokens"] for _ in range(50)}
    assert len(left) > 20
    assert max(left) <= 100


def test_some_replies_are_plain() -> None:
    asking = Asking("tgi", Requests((40, 40), (5, 5), plain_share=0.5), "seed")
    paths = [asking.next("key").split(b" ")[1] for _ in range(100)]
    assert 30 < paths.count(b"/generate") < 70
    assert paths.count(b"/generate") + paths.count(b"/generate_stream") == 100
