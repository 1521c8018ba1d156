"""The page on the simulator names everything that there is."""

import argparse
import re
from pathlib import Path

from fairqueue_cli.engine_sim import add_arguments
from fairqueue_sim import ENGINE_KINDS, Outcome, steering

PAGE = (Path(__file__).parent.parent.parent / "docs" / "engine-sim.md").read_text(encoding="utf-8")


def test_every_kind_and_option_is_on_the_page() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    options = [option for action in parser._actions for option in action.option_strings]
    assert len(options) > 5
    assert [name for name in (*options, *ENGINE_KINDS) if f"`{name}" not in PAGE] == []


def test_every_mark_and_outcome_is_on_the_page() -> None:
    marks = re.findall(r"\| (`\[\[\w+=\w+\]\]`) \|", steering.__doc__ or "")
    assert len(marks) > 9
    assert [mark for mark in marks if mark not in PAGE] == []
    assert [outcome.value for outcome in Outcome if f"`{outcome.value}`" not in PAGE] == []
