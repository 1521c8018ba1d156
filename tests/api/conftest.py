"""Every test of `fairqueue_api` runs in an empty directory of its own, so that errors can be compared as lines."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
