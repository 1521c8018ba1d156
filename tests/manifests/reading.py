"""The manifests as files: what a kustomization leads to, and the examples. kubectl is not needed for it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"
EXAMPLES = MANIFESTS / "examples"
SERVERS = {"TGI": EXAMPLES / "tgi.yaml", "VLLM": EXAMPLES / "vllm.yaml"}
POLICIES = sorted(set(EXAMPLES.glob("*.yaml")) - set(SERVERS.values()))
PAGE = ROOT / "docs" / "policies-by-example.md"

_FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def objects(file: Path) -> list[Json]:
    """All objects of a file."""
    return list(yaml.safe_load_all(file.read_text()))


def files_of(kustomization: Path) -> Iterator[Path]:
    """The files with objects that a folder's kustomization leads to."""
    (content,) = objects(kustomization / "kustomization.yaml")
    for name in [*content.get("resources", []), *content.get("components", [])]:
        place = (kustomization / name).resolve()
        if place.is_dir():
            yield from files_of(place)
        else:
            yield place


def objects_of(*folders: str) -> list[Json]:
    """All objects that these folders of `manifests/` lead to."""
    return [each for folder in folders for file in files_of(MANIFESTS / folder) for each in objects(file)]


def one(kind: str, name: str, found: list[Json]) -> Json:
    """The object of that kind and name."""
    (only,) = (each for each in found if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return only


def fenced(page: str, language: str) -> list[str]:
    """The blocks of a page that are in a language."""
    return [text for found, text in _FENCED.findall(page) if found == language]
