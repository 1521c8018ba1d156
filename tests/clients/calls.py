"""Calls of clients' libraries, and the programs that make them: see `client_program`."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from clients.attempts import Failed, Said

# Bounds a test that would otherwise hang; no test waits for it.
PATIENCE_SECONDS = 60.0

# Where `make setup` puts the one client that can't be installed where the others are.
TEXT_GENERATION_PYTHON = Path(sys.prefix) / "text-generation" / "bin" / "python"

RETRYING = frozenset({"openai", "anthropic"})

_programs: dict[str, subprocess.Popen[str]] = {}


@dataclass(frozen=True)
class Call:
    """A call of a client by its name; `options` of the call and `settings` of the client are beside the default."""

    client: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def streams(self) -> bool:
        return "stream" in self.name

    @property
    def asynchronous(self) -> bool:
        return "async" in self.name

    @property
    def once(self) -> "Call":
        """The same by a client that has been told not to try again, so that its user sees a refusal at once."""
        settings = {**self.settings, "max_retries": 0} if self.client in RETRYING else self.settings
        return replace(self, settings=settings)


def attempt(call: Call, url: str, key: str, prompt: str) -> Said | Failed:
    """What the user of the client gets."""
    (came,) = attempt_all([call], url, key, prompt)
    return came


def attempt_all(calls: list[Call], url: str, key: str, prompt: str) -> list[Said | Failed]:
    """What the users get who call at the same time; all of them by one program."""
    asked = [
        {
            "client": call.client,
            "name": call.name,
            "options": dict(call.options),
            "settings": dict(call.settings),
            "url": url,
            "key": key,
            "prompt": prompt,
        }
        for call in calls
    ]
    program = _program("text-generation" if calls[0].client == "text-generation" else "others")
    assert program.stdin is not None
    assert program.stdout is not None
    print(json.dumps(asked), file=program.stdin, flush=True)
    readable, _, _ = select.select([program.stdout], [], [], PATIENCE_SECONDS)
    assert readable, f"no answer to {asked}"
    line = program.stdout.readline()
    assert line, f"the program ended at {asked}"
    return [_came(**came) for came in json.loads(line)]


def _came(*, type: str, **came: Any) -> Said | Failed:
    return Said(**came) if type == "Said" else Failed(**came)


def _program(name: str) -> subprocess.Popen[str]:
    if name not in _programs:
        python = TEXT_GENERATION_PYTHON if name == "text-generation" else Path(sys.executable)
        assert python.exists(), f"{python} is not there: run `make setup`"
        _programs[name] = subprocess.Popen(
            [python, "-m", "clients.client_program"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
    return _programs[name]


def stop_programs() -> None:
    """Ends those that run."""
    while _programs:
        _programs.popitem()[1].communicate(timeout=PATIENCE_SECONDS)
