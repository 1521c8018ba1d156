"""The compiled tools of the data-plane bench, compiled once."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from compiled_tools import Connection, Load, Upstream, connected, running_upstream

SOURCES = Path(__file__).resolve().parents[2] / "bench" / "data_plane_tools"
FLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"]


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both, compiled. CFLAGS come behind our own: `-fsanitize=address,undefined` finds more."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no cc")
    folder = tmp_path_factory.mktemp("tools")
    for name in ("upstream", "load"):
        more = os.environ.get("CFLAGS", "").split()
        subprocess.run([compiler, *FLAGS, *more, SOURCES / f"{name}.c", "-o", folder / name], check=True)
    return folder


@pytest.fixture
def upstream(tools: Path) -> Iterator[Upstream]:
    with running_upstream(tools) as running:
        yield running


@pytest.fixture
def client(upstream: Upstream) -> Iterator[Connection]:
    with connected(upstream.port) as connection:
        yield connection


@pytest.fixture
def load(tools: Path, tmp_path: Path) -> Load:
    return Load(tools, tmp_path)
