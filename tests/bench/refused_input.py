"""A benchmark's command in this process, for input that it does not take: to start one takes half a second."""

import runpy
import sys
from pathlib import Path

import pytest


def exit_code(command: Path, *options: str) -> object:
    """What it ends with before it has measured anything."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", [str(command), *options])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(command), run_name="__main__")
    return ended.value.code
