"""The file of cells: the repository's own, and what is said of one that can't be used."""

from pathlib import Path

import pytest

from socket_bench.cells import Burst, CellsError, Light, Throughput, read_cells

ROOT = Path(__file__).resolve().parents[2]
CELL = """
- name: {name}
  measures: throughput
  engine: {{kind: tgi, words: TGI}}
  requests: {{prompt_tokens: [1, 2], output_tokens: [3, 4]}}
  clients: 5
"""
TGI_PERMITS = 128


def test_the_cells_are_eight_engines_and_the_speed_is_at_least_four() -> None:
    cells = read_cells(ROOT / "bench" / "cells.yaml")
    pairs = [cell for cell in cells if isinstance(cell, Throughput)]
    assert len(pairs) == 8
    assert {cell.engine.kind for cell in pairs} == {"tgi", "vllm", "sglang", "openai", "llamacpp"}
    assert sorted(cell.engine.slots or 0 for cell in pairs if cell.engine.kind == "llamacpp") == [4, 8]
    assert all(cell.engine.speed >= 4 for cell in cells if cell.engine.is_simulated)
    assert any(isinstance(cell, Light) for cell in cells)
    assert all(cell.count == 200 for cell in cells if isinstance(cell, Burst))


def test_tgi_takes_all_clients_of_its_cells_directly() -> None:
    cells = read_cells(ROOT / "bench" / "cells.yaml")
    clients = [cell.clients for cell in cells if isinstance(cell, Throughput) and cell.engine.kind == "tgi"]
    assert clients
    assert max(clients) < TGI_PERMITS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("- [", "expected", id="no YAML"),
        pytest.param(CELL.format(name="a").replace("clients", "customers"), "customers", id="unknown field"),
        pytest.param(CELL.format(name="a").replace("tgi", "gpt"), "gpt", id="unknown engine"),
        pytest.param(CELL.format(name="a") + CELL.format(name="a"), "two cells are named a", id="the same name twice"),
    ],
)
def test_a_file_that_cant_be_used_is_named_with_the_reason(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "cells.yaml"
    path.write_text(text)
    with pytest.raises(CellsError, match=said) as error:
        read_cells(path)
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CellsError, match=r"none\.yaml: No such file"):
        read_cells(tmp_path / "none.yaml")
