"""`fairqueue demo` itself: the whole run in small, and what ends it early."""

import asyncio
import io
import json
import re
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import pytest

from cli.samples import reply, result
from fairqueue_cli.demo import Options, Scenario, give_up_if_hopeless, run_demo
from fairqueue_cli.demo_stack import DemoError
from fairqueue_cli.load_reply import Outcome
from fairqueue_cli.load_spec import TenantSpec

SMALL = Scenario(
    batch=TenantSpec("batch", workers=3, max_tokens=(3, 5), prompt_words=2),
    chat=TenantSpec("chat", workers=1, max_tokens=(3, 5), prompt_words=2),
    replies=2,
    phase_limit_seconds=60.0,
)


class InterruptingTerminal(io.StringIO):
    """Whoever reads that things keep running presses Ctrl-C."""

    def write(self, text: str) -> int:
        if "until Ctrl-C" in text:
            signal.raise_signal(signal.SIGINT)
        return super().write(text)


@pytest.mark.usefixtures("real_engine")
async def test_the_demo_runs_both_ways_reports_them_and_keeps_running_until_ctrl_c(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", InterruptingTerminal())
    picture = tmp_path / "demo.png"
    async with asyncio.timeout(100):
        await run_demo(Options(keep=True, output=picture, json=True), SMALL)
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [run["scheduler"] for run in runs] == ["engine", "vtc"]
    for run in runs:
        tenants = {tenant["name"]: tenant for tenant in run["tenants"]}
        assert tenants["chat"]["completed"] >= 2
        assert tenants["chat"]["ttft_seconds"]["p50"] > 0
        assert tenants["batch"]["output_tokens"] > 0
        assert tenants["batch"]["refused"] == tenants["chat"]["refused"] == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    said = sys.stderr.getvalue()
    assert len(re.findall(r'curl -N http://\S+ -H "Authorization: Bearer \$\(cat /\S+-key/key\)"', said)) == 2


def entries(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def children_of(pid: int) -> list[Path]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [Path("/proc") / child for child in children]


@pytest.mark.usefixtures("real_engine")
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
async def test_an_interrupted_demo_leaves_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fairqueue_cli.main", "demo", "--output", str(tmp_path / "demo.png")),
        env={"TMPDIR": str(tmp_path)},
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=PIPE,
    )
    assert process.stderr is not None
    async with asyncio.timeout(60):
        while b"Phase 1" not in await process.stderr.readline():
            pass
        children = children_of(process.pid)
        process.send_signal(number)
        rest = (await process.stderr.read()).decode()
        assert await process.wait() == 130
    assert "Traceback" not in rest
    assert rest.endswith("fairqueue demo: interrupted; engine and proxy are stopped\n")
    assert len(children) == 1
    assert not children[0].exists()
    assert entries(tmp_path) == []


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("picture.jpg", "must end in .png"),
        pytest.param("nowhere/demo.png", "there is no such directory", marks=pytest.mark.long),
    ],
)
async def test_a_bad_output_is_refused_before_anything_starts(output: str, said: str, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fairqueue_cli.main", "demo", "--output", output), cwd=tmp_path, stderr=PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert errors.decode().startswith(f"fairqueue demo: --output {output}: {said}")


def test_a_target_that_only_refuses_is_given_up() -> None:
    refused = reply(0.0, None, 1.0, outcome=Outcome.REFUSED, detail="401")
    with pytest.raises(DemoError, match="answers no request: 401"):
        give_up_if_hopeless(result({TenantSpec("chat"): [refused]}, ended_at=11.0))


def test_a_target_that_stopped_listening_is_given_up_at_once() -> None:
    gone = reply(0.0, None, 0.0, outcome=Outcome.FAILED, detail="connection refused")
    with pytest.raises(DemoError, match="has stopped listening"):
        give_up_if_hopeless(result({TenantSpec("chat"): [reply(0.0, 1.0, 2.0), gone]}, ended_at=3.0))


def test_a_target_that_refuses_some_is_not_given_up() -> None:
    refused = reply(0.0, None, 1.0, outcome=Outcome.REFUSED, detail="429")
    give_up_if_hopeless(result({TenantSpec("chat"): [refused, reply(0.0, 1.0, 2.0)]}, ended_at=11.0))
