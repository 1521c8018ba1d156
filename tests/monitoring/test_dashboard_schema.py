"""The dashboard is what Grafana's own types say that a dashboard is: read by them and written again it is the same,
so that no field has a name or a place that Grafana does not know."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

from fairqueue_monitoring.dashboard import dashboard

DASHBOARD = dashboard("https://runbooks.example")
# The data source's own, which Grafana's types leave to it.
OF_PROMETHEUS = {"step", "titleFormat"}
UNITS = {value for name, value in vars(units).items() if isinstance(value, str) and not name.startswith("_")}


@pytest.fixture(scope="module")
def read_again() -> Any:
    register_default_plugins()
    return json.loads(JSONEncoder().encode(Dashboard.from_json(DASHBOARD)))


def lost(ours: Any, theirs: Any, place: str = "") -> Iterator[str]:
    """What of ours is not in theirs, or is another there."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name, value in ours.items():
            if name not in theirs:
                yield f"{place}.{name}"
            else:
                yield from lost(value, theirs[name], f"{place}.{name}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from lost(one, other, f"{place}[{number}]")
    elif ours != theirs:
        yield f"{place}: {ours!r} is {theirs!r}"


def test_nothing_is_lost_when_grafanas_types_read_it(read_again: Any) -> None:
    found = [it for it in lost(DASHBOARD, read_again) if it.rpartition(".")[2] not in OF_PROMETHEUS]
    assert found == []


def test_a_misspelled_field_would_be_lost() -> None:
    register_default_plugins()
    wrong = json.loads(json.dumps(DASHBOARD))
    wrong["panels"][1]["fieldConfig"]["default"] = {}
    assert list(lost(wrong, json.loads(JSONEncoder().encode(Dashboard.from_json(wrong))))) != []


def test_the_schema_is_the_one_of_these_types() -> None:
    assert DASHBOARD["schemaVersion"] == Dashboard().schema_version


@pytest.mark.parametrize("panel", [it for it in DASHBOARD["panels"] if it["type"] != "row"], ids=lambda it: it["title"])
def test_units_are_grafanas_or_a_suffix(panel: Any) -> None:
    overridden = [it for override in panel["fieldConfig"]["overrides"] for it in override["properties"]]
    units_of_columns = [it["value"] for it in overridden if it["id"] == "unit"]
    for unit in (panel["fieldConfig"]["defaults"]["unit"], *units_of_columns):
        assert unit in UNITS or unit.startswith("suffix: ")
