"""What the tests of recordings share: a recording in a file, and its rows as they are written there."""

import csv
from pathlib import Path

from fairqueue_proxy.recording import Recording, open_recording
from fairqueue_proxy.trace_columns import COLUMNS

HEADER = "arrival_seconds,tenant,prompt_tokens,output_tokens,max_tokens,user,cached_tokens,outcome\n"

Row = dict[str, str]


class TraceFile:
    """A recording and its file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "trace.csv"
        self.recording: Recording = open_recording(self.path)

    @property
    def text(self) -> str:
        return self.path.read_bytes().decode()

    @property
    def rows(self) -> list[Row]:
        return rows_of(self.text)


def rows_of(text: str) -> list[Row]:
    """Each row by column; every line is whole."""
    assert text.endswith("\n")
    assert "\r" not in text
    reader = csv.DictReader(text.splitlines())
    assert tuple(reader.fieldnames or ()) == COLUMNS
    return list(reader)


def column(rows: list[Row], *names: str) -> list[tuple[str, ...]]:
    """Some columns of all rows."""
    return [tuple(row[name] for name in names) for row in rows]
