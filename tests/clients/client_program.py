"""Calls clients for tests: a line of JSON in, a line of JSON out, until there are no more.

A process of its own, because the clients' libraries take seconds to import, twice that under coverage; and because
text-generation can't be installed where the others are. A line asks for several calls, which are made at once.
"""

import importlib
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from dataclasses import asdict
from io import StringIO
from typing import Any

from clients.attempts import Failed, Said, result

MODULES = {
    "openai": "clients.openai_calls",
    "anthropic": "clients.anthropic_calls",
    "huggingface_hub": "clients.hub_calls",
    "text-generation": "clients.text_generation_calls",
}


def example(url: str, key: str, code: str) -> Said:
    """Runs an example of the documentation, which has its own address and key; what it prints."""
    with redirect_stdout(StringIO()) as printed:
        exec(compile(code, "example", "exec"), {})
    return Said(printed.getvalue())


def called(asked: dict[str, Any]) -> Said | Failed:
    """What comes of one call."""
    module = importlib.import_module(MODULES[asked["client"]])
    function = example if asked["name"] == "example" else module.CALLS[asked["name"]]
    return result(function, asked["url"], asked["key"], asked["prompt"], asked["options"])


def answered(line: str) -> list[dict[str, Any]]:
    """What comes of the calls that a line asks for."""
    calls = json.loads(line)
    for asked in calls:
        settings = importlib.import_module(MODULES[asked["client"]]).settings
        settings.clear()
        settings.update(asked["settings"])
    with ThreadPoolExecutor(len(calls)) as threads:
        return [{"type": type(came).__name__, **asdict(came)} for came in threads.map(called, calls)]


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answered(line)), flush=True)
    for name in MODULES.values():
        if name in sys.modules:
            sys.modules[name].close_clients()
