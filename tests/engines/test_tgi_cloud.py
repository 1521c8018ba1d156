"""TGI's `/vertex` and `/invocations`."""

from typing import Any

import pytest

from engines.parsing import parse, sent
from fairqueue_proxy.engines import Api

MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    ("body", "api", "dropped"),
    [
        ({"inputs": "x"}, Api.TGI_ROOT, set()),
        ({"inputs": "x", "messages": MESSAGES, "prompt": "y"}, Api.TGI_ROOT, {"messages", "prompt"}),
        ({"messages": MESSAGES}, Api.CHAT, set()),
        ({"inputs": 5, "messages": MESSAGES, "prompt": "y"}, Api.CHAT, {"inputs", "prompt"}),
        ({"prompt": "x"}, Api.COMPLETIONS, set()),
        ({"prompt": "x", "messages": "no list", "inputs": None}, Api.COMPLETIONS, {"messages", "inputs"}),
        ({"x": 1}, Api.COMPLETIONS, set()),
    ],
)
def test_the_shape_of_an_invocation_decides_and_no_other_is_left(
    body: dict[str, Any], api: Api, dropped: set[str]
) -> None:
    assert parse("TGI", "/invocations", body).api is api
    assert sent("TGI", "/invocations", body).keys() == body.keys() - dropped


def test_an_invocation_is_asked_for_its_counts_like_the_route_it_stands_for() -> None:
    native = sent("TGI", "/invocations", {"inputs": "x", "parameters": {}, "stream": True})
    assert native["parameters"] == {"details": True}
    chat = sent("TGI", "/invocations", {"messages": MESSAGES, "stream": True})
    assert chat["stream_options"] == {"include_usage": True}


def test_each_instance_of_vertex_is_a_request() -> None:
    instances = [
        {"inputs": "abc", "parameters": {"max_new_tokens": 5}},
        {"messages": MESSAGES, "max_tokens": 1500},
    ]
    call = parse("TGI", "/vertex", {"instances": instances})
    assert (call.api, call.stream, call.sequences) == (Api.TGI_VERTEX, False, 2)
    assert (call.prompt_bytes, call.max_tokens) == (8, 2048)


@pytest.mark.parametrize(
    ("instances", "sequences", "max_tokens"),
    [
        ([{"inputs": "x"}, {"inputs": "x", "parameters": {"max_new_tokens": 5}}], 2, None),
        ([{"messages": MESSAGES, "max_tokens": 9, "max_completion_tokens": 3}], 1, 3),
        ([], 1, None),
        ("x", 1, None),
        (None, 1, None),
        ([5], 1, None),
    ],
)
def test_odd_instances_are_measured_too(instances: Any, sequences: int, max_tokens: int | None) -> None:
    call = parse("TGI", "/vertex", {"instances": instances})
    assert (call.sequences, call.max_tokens) == (sequences, max_tokens)
