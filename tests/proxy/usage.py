"""What the tests of usage logs share: the lines in a folder, as whoever bills reads them, and their sums."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Line = dict[str, Any]

KINDS = ("input", "cached_input", "output")


def usage_files(folder: Path) -> list[Path]:
    """Finished ones and those that are written, in the order of their lines for each process."""
    return sorted(folder.glob("usage-*.jsonl*"), key=lambda path: (path.suffix == ".jsonl", len(path.name), path.name))


def usage_lines(folder: Path) -> list[Line]:
    """All lines of all files; what a crash has cut is not one."""
    texts = [path.read_text() for path in usage_files(folder)]
    return [json.loads(line) for text in texts for line in text.splitlines(keepends=True) if line.endswith("\n")]


def usage_sums(lines: Iterable[Line]) -> dict[str, Counter[str]]:
    """By tenant: tokens of each kind, and cost."""
    sums: dict[str, Counter[str]] = {}
    for line in lines:
        counts = {kind: line[f"{kind}_tokens"] for kind in KINDS}
        sums.setdefault(line["tenant"], Counter()).update(counts | {"cost": line["cost"]})
    return sums
