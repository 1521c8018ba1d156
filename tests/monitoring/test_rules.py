"""The rules as Prometheus' own tool sees them: each alert fires when it should, and not when it nearly should."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairqueue_monitoring.made_files import made_files, rule_files, write
from fairqueue_monitoring.rule_files import Rules
from monitoring.prometheus_server import needs
from monitoring.rule_cases import CASES, Case, Series, missed, named

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"
ALERTS = [alert.name for alert in Rules().alerts]
needs_promtool = needs("promtool")


def judge(folder: Path, alert: str, series: Series, at_seconds: int, expected: list[dict[str, Any]]) -> str:
    """What `promtool test rules` has against it; empty: it is so."""
    test = {
        "interval": "30s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": f"{at_seconds}s", "alertname": alert, "exp_alerts": expected}],
    }
    # Rules are evaluated at the samples' times and between them, as increase() gives other figures there.
    names = [str(it) for it in write(rule_files(Rules(), folder))]
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": names, "evaluation_interval": "20s", "tests": [test]}))
    run = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, check=False)
    return "" if run.returncode == 0 else run.stdout + run.stderr


def alert_of(alert: str, case: Case) -> dict[str, Any]:
    annotations = {
        "summary": case.summary,
        "description": case.description,
        "runbook_url": f"https://fairqueue.dev/runbooks/{alert}",
    }
    return {"exp_labels": dict(case.labels), "exp_annotations": annotations}


@needs_promtool
@pytest.mark.parametrize(("alert", "case"), [pytest.param(*it, id=f"{it[0]}: {it[1].title}") for it in named()])
def test_it_fires_and_says_what_is_wrong(tmp_path: Path, alert: str, case: Case) -> None:
    assert judge(tmp_path, alert, case.series, case.at_seconds, [alert_of(alert, case)]) == ""


@needs_promtool
@pytest.mark.parametrize(
    ("alert", "series", "at_seconds"), [pytest.param(it[0], *it[2:], id=f"{it[0]}: {it[1]}") for it in missed()]
)
def test_it_does_not_fire_when_it_nearly_should(tmp_path: Path, alert: str, series: Series, at_seconds: int) -> None:
    assert judge(tmp_path, alert, series, at_seconds, []) == ""


@needs_promtool
@pytest.mark.parametrize(("alert", "case"), [pytest.param(*it, id=f"{it[0]}: {it[1].title}") for it in named()])
def test_it_does_not_fire_before_it_has_lasted(tmp_path: Path, alert: str, case: Case) -> None:
    lasting = next(it.lasting for it in Rules().alerts if it.name == alert)
    assert judge(tmp_path, alert, case.series, int(lasting) - 30, []) == ""


def test_each_alert_has_cases_and_a_runbook() -> None:
    assert list(CASES) == ALERTS
    assert {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"} == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_a_runbook_says_what_it_means_how_to_look_and_what_to_do(alert: str) -> None:
    text = (RUNBOOKS / f"{alert}.md").read_text()
    heads = [line for line in text.splitlines() if line.startswith("#")]
    assert heads == [f"# {alert}", "## What it means", "## How to look", "## What to do"]
    severity = next(it.severity for it in Rules().alerts if it.name == alert)
    assert f"**{severity.value}**" in text


@needs_promtool
@pytest.mark.parametrize("factor", [1.0, 60.0])
def test_promtool_accepts_the_rules_whatever_durations_are_divided_by(tmp_path: Path, factor: float) -> None:
    files = write(rule_files(Rules(factor), tmp_path))
    assert shutil.which("promtool")
    run = subprocess.run(["promtool", "check", "rules", *files], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.count("SUCCESS")) == (0, len(files)), run.stdout + run.stderr


def test_every_duration_is_divided() -> None:
    """Nothing is left of minutes at a factor that makes seconds of them, and hours are minutes."""
    for text in (rule_file for rule_file in rule_files(Rules(60.0), Path()).values()):
        for group in yaml.safe_load(text)["groups"]:
            for rule in group["rules"]:
                windows = [part.partition("]")[0] for part in rule["expr"].split("[")[1:]]
                durations = [*windows, rule.get("for", "0s")]
                assert all(it.endswith("s") or it == "1m" for it in durations), rule


def test_what_is_made_of_code_is_in_the_repository_as_it_is_made() -> None:
    for path, text in made_files(Rules()).items():
        assert path.read_text() == text, f"{path.name} is not what `make monitoring` writes"
