"""Every call of every client on every kind of engine that serves it: what the tests are parametrised with."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from clients.calls import Call
from fairqueue_sim import EngineKind

KINDS: dict[EngineKind, str] = {"tgi": "TGI", "vllm": "VLLM", "sglang": "SGLang", "openai": "OpenAI"}
"""Simulators, and what a policy calls their kind."""

# The names in the modules `openai_calls` and so on.
EVERYWHERE = {
    "openai": [
        "chat",
        "chat stream",
        "chat stream with usage",
        "completion",
        "completion stream",
        "completion stream with usage",
        "async chat",
        "async chat stream",
    ],
    "huggingface_hub": ["chat", "chat stream", "chat stream with usage", "async chat", "async chat stream"],
}
ON_TGI = {
    "huggingface_hub": [
        "generation",
        "generation with details",
        "generation stream",
        "generation stream with details",
        "async generation",
        "async generation stream",
    ],
    "text-generation": [
        "generate",
        "generate stream",
        "chat",
        "async generate",
        "async generate stream",
        "async chat",
    ],
}
ON_VLLM = {
    "openai": ["response", "response stream"],
    "anthropic": [
        "message",
        "message stream",
        "message by the stream helper",
        "async message",
        "async message stream",
    ],
}


HOME: dict[str, EngineKind] = {
    "openai": "vllm",
    "anthropic": "vllm",
    "huggingface_hub": "tgi",
    "text-generation": "tgi",
}
"""The engine on which most of a client's calls are tried."""

# Of the others one of a sort is enough for every run; `make test-long` has them all.
SELDOM = {
    "openai": {"completion", "completion stream with usage", "async chat"},
    "anthropic": {"async message"},
    "huggingface_hub": {"generation with details", "async generation", "async chat", "async chat stream"},
    "text-generation": {"async generate", "async chat"},
}
ABROAD = {("openai", "chat"), ("openai", "chat stream with usage"), ("huggingface_hub", "chat stream")}


@dataclass(frozen=True, slots=True)
class Case:
    """A call to one kind of engine."""

    call: Call
    kind: EngineKind

    @property
    def client(self) -> str:
        return self.call.client

    @property
    def at_home(self) -> bool:
        return self.kind == HOME[self.call.client]

    @property
    def often(self) -> bool:
        """Tried in every run."""
        if not self.at_home:
            return (self.call.client, self.call.name) in ABROAD
        return self.call.name not in SELDOM[self.call.client]

    @property
    def native(self) -> bool:
        """By TGI's own routes, whose errors have names."""
        return self.call.client == "text-generation" or "generation" in self.call.name


def _cases() -> Iterator[Case]:
    for kind in KINDS:
        for table in (EVERYWHERE, {"tgi": ON_TGI, "vllm": ON_VLLM}.get(kind, {})):
            for client, names in table.items():
                yield from (Case(Call(client, name), kind) for name in names)


CASES = list(_cases())


def cases(which: Callable[[Case], bool], *, async_seldom: bool = False) -> pytest.MarkDecorator:
    """Parametrises a test with the cases for which it holds; those that are not tried in every run are `long`, and if
    `async_seldom` so are all async ones."""

    def parameter(case: Case) -> Any:
        name = f"{case.client} {case.call.name} on {case.kind}"
        often = case.often and not (async_seldom and case.call.asynchronous)
        return pytest.param(case, id=name, marks=() if often else pytest.mark.long)

    return pytest.mark.parametrize("case", [parameter(case) for case in CASES if which(case)])


def told_apart(case: Case) -> bool:
    """One case for each way in which a client reads a reply, on the engine that it is made for: neither the kinds of
    engines nor an event loop around it make a difference to what becomes of an error."""
    plain_async = case.call.asynchronous and not case.call.streams
    return case.at_home and not plain_async and not case.call.name.endswith(("usage", "details"))
