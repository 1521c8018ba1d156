"""The dashboard is one that Grafana can show: places, ids, data sources, units, descriptions, variables."""

import json
import re
from collections import Counter
from itertools import combinations, pairwise
from typing import Any

import pytest
import yaml

from fairqueue_monitoring.dashboard import UID, dashboard, dashboard_config_map, dashboard_file
from fairqueue_monitoring.grafana import COLUMNS, DATASOURCE, GREEN, RED, Panel, Query, Row, View, laid_out, panel_json

RUNBOOKS = "https://runbooks.example"
DASHBOARD = dashboard(RUNBOOKS)
EVERYTHING = DASHBOARD["panels"]
ROWS = [it for it in EVERYTHING if it["type"] == "row"]
PANELS = [it for it in EVERYTHING if it["type"] != "row"]
CORE = {"timeseries", "stat", "table", "bargauge", "state-timeline", "row", "text"}
# What `kubectl apply` can keep of an object in an annotation of it.
MOST_BYTES = 262_144
_VARIABLE = re.compile(r"\$\{?(\w+)")

Json = dict[str, Any]
each_panel = pytest.mark.parametrize("panel", PANELS, ids=lambda it: it["title"])


def overlap(one: Json, other: Json) -> bool:
    a, b = one["gridPos"], other["gridPos"]
    beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
    return not beside and a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]


def test_ids_and_titles_are_told_apart() -> None:
    assert DASHBOARD["uid"] == UID
    assert max(Counter(it["id"] for it in EVERYTHING).values()) == 1
    assert max(Counter(it["title"] for it in EVERYTHING).values()) == 1


def test_nothing_lies_on_something_else_or_beyond_the_edge() -> None:
    assert [(a["title"], b["title"]) for a, b in combinations(EVERYTHING, 2) if overlap(a, b)] == []
    for panel in EVERYTHING:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= COLUMNS, panel["title"]


def test_panels_are_listed_below_their_row_and_rows_have_no_gap_between_them() -> None:
    assert EVERYTHING[0]["type"] == "row"
    for before, after in pairwise(EVERYTHING):
        assert before["gridPos"]["y"] <= after["gridPos"]["y"]
    ends = 0
    for panel in EVERYTHING:
        if panel["type"] == "row":
            assert panel["gridPos"]["y"] == ends
        ends = max(ends, panel["gridPos"]["y"] + panel["gridPos"]["h"])


def test_a_panel_that_is_added_to_a_row_changes_the_ids_of_no_other() -> None:
    one, two, more = (Panel(title, "What.", "s", (Query("up", ""),)) for title in ("one", "two", "more"))
    before = laid_out((Row("a", (one,)), Row("b", (two,))))
    after = laid_out((Row("a", (one, more)), Row("b", (two,))))
    ids = {it["title"]: it["id"] for it in before}
    assert {it["title"]: it["id"] for it in after if it["title"] != "more"} == ids


@each_panel
def test_a_panel_has_a_title_a_unit_and_a_description_of_one_line(panel: Json) -> None:
    assert panel["title"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["description"].endswith(".")
    assert "\n" not in panel["description"]
    assert len(panel["description"]) <= 110


@each_panel
def test_a_panel_is_one_of_grafanas_own_and_asks_the_chosen_data_source(panel: Json) -> None:
    assert panel["type"] in CORE
    assert panel["targets"]
    assert [it["datasource"] for it in (panel, *panel["targets"])] == [DATASOURCE] * (1 + len(panel["targets"]))
    refs = [it["refId"] for it in panel["targets"]]
    assert refs == sorted(set(refs))


@each_panel
def test_what_is_dashed_is_named_like_what_it_is_held_against(panel: Json) -> None:
    """Lines are coloured by name."""
    dashed = {it["matcher"]["options"] for it in panel["fieldConfig"]["overrides"] if "lineStyle" in str(it)}
    names = {it["refId"]: it["legendFormat"] for it in panel["targets"]}
    assert {names[ref] for ref in dashed} <= {name for ref, name in names.items() if ref not in dashed}
    assert bool(dashed) == ("dashed" in panel["description"])


def test_lines_of_one_panel_that_are_not_dashed_have_names_of_their_own() -> None:
    for panel in PANELS:
        dashed = {it["matcher"]["options"] for it in panel["fieldConfig"]["overrides"] if "lineStyle" in str(it)}
        names = [it["legendFormat"] for it in panel["targets"] if it["refId"] not in dashed]
        assert len(names) == len(set(names)), panel["title"]


def test_variables_and_annotations_ask_the_chosen_data_source() -> None:
    first, *others = DASHBOARD["templating"]["list"]
    assert (first["name"], first["type"], first["query"]) == ("datasource", "datasource", "prometheus")
    assert [it["name"] for it in others] == ["policy", "instance", "tenant"]
    assert [it["datasource"] for it in (*others, *DASHBOARD["annotations"]["list"])] == [DATASOURCE] * 5
    assert all(it["multi"] and it["includeAll"] for it in others)


def test_only_variables_are_used_that_there_are_each_after_it_was_defined() -> None:
    defined = {"__rate_interval", "__data"}
    for variable in DASHBOARD["templating"]["list"]:
        assert set(_VARIABLE.findall(json.dumps(variable))) - {"__all"} <= defined, variable["name"]
        defined.add(variable["name"])
    used = set(_VARIABLE.findall(json.dumps([EVERYTHING, DASHBOARD["annotations"]])))
    assert used == defined


def test_several_queries_of_a_table_become_columns_with_their_names() -> None:
    queries = (Query("up", "Up"), Query("down", "Down", unit="s"))
    made = panel_json(Panel("t", "What.", "short", queries, View.TABLE, hidden=("job",)))
    merge, organise = made["transformations"]
    assert merge["id"] == "merge"
    assert organise["options"]["renameByName"] == {"Value #A": "Up", "Value #B": "Down"}
    assert organise["options"]["excludeByName"] == {"Time": True, "job": True}
    assert made["fieldConfig"]["overrides"] == [
        {"matcher": {"id": "byName", "options": "Down"}, "properties": [{"id": "unit", "value": "s"}]}
    ]


def test_states_have_words_and_colours() -> None:
    made = panel_json(
        Panel("t", "What.", "short", (Query("up", ""),), View.STATES, states=((0, "down", RED), (1, "up", GREEN)))
    )
    (mapping,) = made["fieldConfig"]["defaults"]["mappings"]
    assert mapping["options"] == {"0": {"text": "down", "color": RED}, "1": {"text": "up", "color": GREEN}}


def test_a_firing_alert_leads_to_its_runbook() -> None:
    (panel,) = [it for it in PANELS if it["title"] == "Firing alerts"]
    assert f'"{RUNBOOKS}/${{__data.fields.alertname}}"' in json.dumps(panel)


def test_the_same_is_made_each_time() -> None:
    assert dashboard_file(RUNBOOKS) == dashboard_file(RUNBOOKS)
    assert json.loads(dashboard_file(RUNBOOKS)) == DASHBOARD


def test_the_config_map_has_the_same_dashboard_and_the_label_that_grafanas_sidecar_looks_for() -> None:
    text = dashboard_config_map(RUNBOOKS, "somewhere")
    found = yaml.safe_load(text)
    assert found["metadata"]["namespace"] == "somewhere"
    assert found["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert found["data"] == {"fairqueue-dashboard.json": dashboard_file(RUNBOOKS)}
    assert len(text.encode()) < MOST_BYTES
