"""The page on usage: its example is a line as it is written, and the script in it adds up what it says."""

import re
import subprocess
import sys
from pathlib import Path

import msgspec

from fairqueue_cli import serve
from fairqueue_operator.injection import names
from fairqueue_proxy import whole_lines
from fairqueue_proxy.metric_families import USAGE_LOG_LOST_LINES, USAGE_LOG_WRITTEN_LINES
from fairqueue_proxy.usage_line import UsageLine

PAGE = (Path(__file__).parents[2] / "docs" / "usage.md").read_text()


def block(language: str) -> str:
    """The only block of that language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_example_is_a_line_with_all_fields_in_their_order() -> None:
    example = block("json").encode()
    line = msgspec.json.decode(example, type=UsageLine)
    assert msgspec.json.encode(line) + b"\n" == example
    assert list(msgspec.json.decode(example)) == list(UsageLine.__struct_fields__)
    assert line.cost == line.input_tokens + line.cached_input_tokens + 2 * line.output_tokens


def test_every_field_is_explained() -> None:
    rows = "".join(row for row in PAGE.splitlines() if row.startswith("| `"))
    assert all(f"`{field}`" in rows for field in UsageLine.__struct_fields__)


def test_the_script_adds_up_whole_lines_of_the_month_by_tenant(tmp_path: Path) -> None:
    example = block("json")
    cut = example[:100]
    (tmp_path / "usage-a-1.jsonl.1").write_text(example * 3)
    (tmp_path / "usage-b-1.jsonl").write_text(example + example.replace("2026-03-04", "2026-04-01") + cut)
    elsewhere = example.replace('"models/shared"', '"lab/shared"')
    (tmp_path / "usage-c-1.jsonl").write_text(example.replace('"alice"', '"bob"') + elsewhere)
    done = subprocess.run(
        [sys.executable, "-c", block("python")], cwd=tmp_path, capture_output=True, text=True, timeout=20, check=True
    )
    counts = {"input_tokens": 212, "cached_input_tokens": 1024, "output_tokens": 180, "cost": 1596, "requests": 1}
    assert done.stdout.splitlines() == [
        f"lab/shared alice {counts}",
        f"models/shared alice { ({kind: 4 * count for kind, count in counts.items()}) }",
        f"models/shared bob {counts}",
    ]


def test_the_page_names_options_metrics_and_the_annotation_as_they_are() -> None:
    text = Path(serve.__file__).read_text()
    for option in ("--usage-log", "--usage-log-max-bytes", "--usage-log-files"):
        assert f"`{option}" in PAGE or f" {option} " in PAGE
        assert f'"{option}"' in text
    for family in (USAGE_LOG_LOST_LINES, USAGE_LOG_WRITTEN_LINES):
        assert f"`{family.name}`" in PAGE
    assert names.USAGE_VOLUME in PAGE
    assert f"waits {whole_lines.LAST_FLUSH_SECONDS:.0f} s for it" in PAGE
