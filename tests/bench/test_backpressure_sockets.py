"""The command as a process: it measures what it is asked to, goes on where it ended, and leaves nothing running."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.refused_input import exit_code
from child_processes import interrupted, runs

COMMAND = Path(__file__).resolve().parents[2] / "bench" / "backpressure_sockets.py"
PATIENCE_SECONDS = 60
# Steps of 10 ms at this speed, and what there is to be learned in 30 s is learned in one and a half.
SPEED = 20
PROFILE = """
kv_tokens = 300
prefill_budget_tokens = 512
max_total_tokens = 200
decode_base_seconds = 0.2
decode_per_sequence_seconds = 0.0
decode_per_kv_token_seconds = 0.0
prefill_per_token_seconds = 0.0001
overhead_seconds = 0.0
mean_output_tokens = 0
"""
REQUESTS = {"prompt_tokens": [20, 20], "output_tokens": [4, 8]}


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """A small one of each kind."""
    profile = tmp_path / "small.toml"
    profile.write_text(PROFILE)

    def engine(kind: str) -> dict[str, Any]:
        return {"kind": kind, "words": kind, "options": {"model-profile": str(profile), "speed": SPEED}}

    path = tmp_path / "cells.yaml"
    common = {"requests": REQUESTS}
    path.write_text(
        yaml.safe_dump(
            [
                {"name": "pairs", "measures": "throughput", "engine": engine("tgi"), "clients": 40, **common},
                {"name": "burst", "measures": "burst", "engine": engine("openai"), "count": 30, **common},
                {
                    "name": "light",
                    "measures": "light",
                    "engine": engine("vllm"),
                    "per_second": 50.0,
                    "count": 20,
                    **common,
                },
            ]
        )
    )
    return path


async def start(cells: Path, *options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, str(COMMAND), *options, "--cells-file", str(cells), "--results", str(cells.parent / "out")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def run(cells: Path, *options: str) -> tuple[int | None, str, str]:
    process = await start(cells, *options)
    async with asyncio.timeout(PATIENCE_SECONDS):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@pytest.mark.long
async def test_all_kinds_of_cells_are_measured_and_kept_for_the_next_run(cells: Path) -> None:
    short = ("--pairs", "1", "--most-pairs", "1", "--seconds", "1", "--warm-up", "0")
    code, out, err = await run(cells, *short, "--json")
    assert code == 0, err
    assert "pair 1 (direct first): direct" in err
    figures = json.loads(out)
    assert list(figures) == ["pairs", "burst", "light"]
    assert figures["pairs"]["direct"] > 0
    assert 0.2 < figures["pairs"]["ratio"]["median"] < 5
    assert figures["burst"]["direct_seconds"] > 0
    assert figures["light"]["requests"] == 20
    code, out, err = await run(cells, *short)
    assert (code, err) == (0, "pairs: there already\nburst: there already\nlight: there already\n")
    assert out.startswith("| cell | engine |")


async def test_ctrl_c_ends_the_run_and_all_that_it_started(cells: Path) -> None:
    process = await start(cells, "pairs")
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await process.stderr.readline() == b"pairs: tgi\n"
    rest, children = await interrupted(process, 2)
    assert rest == b"interrupted: run it again to go on with the cells that are left\n"
    assert not any(runs(child) for child in children)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(["pears"], "has no cell pears: there are pairs, burst, light", id="unknown cell"),
        pytest.param(["--pairs", "0"], "must be a whole number, 1 or more", id="no pairs"),
    ],
)
def test_bad_input_is_answered_with_a_line_and_code_2(
    cells: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ("--cells-file", str(cells), "--results", str(cells.parent / "out"))
    assert exit_code(COMMAND, *options, *files) == 2
    assert said in capsys.readouterr().err


def without_its_profile(cells: Path) -> Path:
    (cells.parent / "small.toml").rename(cells.parent / "none.toml")
    return cells


async def test_an_engine_that_does_not_start_is_said_with_what_it_printed(cells: Path) -> None:
    code, _, err = await run(without_its_profile(cells), "pairs")
    assert code == 1
    assert "backpressure_sockets: the engine ended with status 2" in err
    assert "small.toml: can't be read" in err
