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
from monitoring.rule_cases import CASES, Case, Series

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"
ALERTS = [alert.name for alert in Rules().alerts]
needs_promtool = needs("promtool")


def rules_for(alert: str, folder: Path) -> list[str]:
    """Files of one alert and what is recorded; without the others, which would take most of the time."""
    found = []
    for path in write(rule_files(Rules(), folder)):
        groups = yaml.safe_load(path.read_text())["groups"]
        for group in groups:
            group["rules"] = [rule for rule in group["rules"] if rule.get("alert", alert) == alert]
        if any("alert" in rule for group in groups for rule in group["rules"]):
            path.write_text(yaml.safe_dump({"groups": groups}))
            found.append(str(path))
    return found


def tried(alert: str, title: str, series: Series, at_seconds: int, fires: Case | None = None) -> dict[str, Any]:
    """A test of promtool's: what it is to find of an alert at one time."""
    expected = [] if fires is None else [alert_of(alert, fires)]
    return {
        "name": f"{alert}, {title}, at {at_seconds} s",
        "interval": "30s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": f"{at_seconds}s", "alertname": alert, "exp_alerts": expected}],
    }


def alert_of(alert: str, case: Case) -> dict[str, Any]:
    annotations = {
        "summary": case.summary,
        "description": case.description,
        "runbook_url": f"https://fairqueue.dev/runbooks/{alert}",
    }
    return {"exp_labels": dict(case.labels), "exp_annotations": annotations}


def judge(folder: Path, alert: str, tests: list[dict[str, Any]]) -> str:
    """What `promtool test rules` has against them; empty: they are so."""
    files = rules_for(alert, folder)
    file = folder / "test.yaml"
    # Rules are evaluated at the samples' times and between them, as increase() gives other figures there.
    file.write_text(yaml.safe_dump({"rule_files": files, "evaluation_interval": "20s", "tests": tests}))
    run = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, check=False)
    return "" if run.returncode == 0 else run.stdout + run.stderr


@needs_promtool
@pytest.mark.parametrize("alert", CASES)
def test_it_fires_when_it_should_and_says_what_is_wrong_and_not_before_it_has_lasted(
    tmp_path: Path, alert: str
) -> None:
    lasting = next(it.lasting for it in Rules().alerts if it.name == alert)
    tests = []
    for case in CASES[alert].fires:
        tests.append(tried(alert, case.title, case.series, case.at_seconds, case))
        tests.append(tried(alert, case.title, case.series, int(lasting) - 30))
    assert judge(tmp_path, alert, tests) == ""


@needs_promtool
@pytest.mark.parametrize("alert", CASES)
def test_it_does_not_fire_when_it_nearly_should(tmp_path: Path, alert: str) -> None:
    cases = CASES[alert]
    tests = [tried(alert, title, series, cases.fires[0].at_seconds) for title, series in cases.misses.items()]
    assert tests
    assert judge(tmp_path, alert, tests) == ""


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
