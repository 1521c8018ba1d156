"""Policies and keys that the tests of `fairqueue_api` start from. Files are JSON, which is YAML too."""

import json
from pathlib import Path
from typing import Any

from fairqueue_api import PolicyError, load_policy
from fairqueue_api.models import FairnessPolicy

SELECTOR = {"matchLabels": {"app": "llm"}}
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "two-teams.yaml"
EVERYTHING = EXAMPLE.with_name("everything.yaml")
POLICY_PAGE = Path(__file__).parents[2] / "docs" / "policy.md"


def policy(**spec: Any) -> dict[str, Any]:
    """The smallest policy, with the given fields of `spec` in place of its own."""
    return {
        "apiVersion": "fairqueue.dev/v1alpha1",
        "kind": "FairnessPolicy",
        "metadata": {"name": "two-teams"},
        "spec": {"selector": SELECTOR, "engine": {"kind": "TGI"}} | spec,
    }


def load(content: dict[str, Any] | str | bytes) -> FairnessPolicy:
    """Loads it from `policy.yaml` in the working directory: tests run in a directory of their own."""
    path = Path("policy.yaml")
    if isinstance(content, dict):
        content = json.dumps(content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return load_policy(path)


def refusals(content: dict[str, Any] | str | bytes) -> list[str]:
    """What is wrong with it, a line for each problem; none if it loads."""
    try:
        load(content)
    except PolicyError as error:
        return [str(problem) for problem in error.problems]
    return []


class Keys:
    """Client keys in memory; the key of (name, entry) unless told otherwise is "name/entry"."""

    def __init__(self, **keys: str) -> None:
        self._keys = keys

    def read(self, name: str, key: str) -> bytes:
        return self._keys.get(name, f"{name}/{key}").encode()
