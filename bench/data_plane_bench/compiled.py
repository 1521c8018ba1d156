"""The upstream and the load tool, compiled when they are not there yet or their sources are newer."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from socket_bench.children import ChildError

__all__ = ["SOURCES", "Tools", "compiled"]

SOURCES = Path(__file__).resolve().parents[1] / "data_plane_tools"
OPTIONS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")


@dataclass(frozen=True, slots=True)
class Tools:
    """Paths of the two programs."""

    upstream: Path
    load: Path


def compiled(folder: Path) -> Tools:
    """Puts them into the folder; raises ChildError if there is no compiler, or if it fails."""
    return Tools(upstream=_compiled("upstream", folder), load=_compiled("load", folder))


def _compiled(name: str, folder: Path) -> Path:
    program, source = folder / name, SOURCES / f"{name}.c"
    newest = max(file.stat().st_mtime for file in SOURCES.glob("*.[ch]"))
    if program.exists() and program.stat().st_mtime >= newest:
        return program
    compiler = shutil.which("cc")
    if compiler is None:
        raise ChildError("there is no C compiler: install `cc` (gcc or clang)")
    folder.mkdir(parents=True, exist_ok=True)
    # Others may run the old one.
    fresh = program.with_suffix(".new")
    run = subprocess.run([compiler, *OPTIONS, str(source), "-o", str(fresh)], capture_output=True, text=True)
    if run.returncode:
        raise ChildError(f"{source} does not compile:\n{run.stderr}")
    fresh.replace(program)
    return program
