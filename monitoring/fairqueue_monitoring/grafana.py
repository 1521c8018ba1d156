"""Panels as Grafana's JSON (dashboard schema 41, Grafana 11 and later). Only panels that Grafana itself has."""

from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from typing import Any, Final

Json = dict[str, Any]

SCHEMA_VERSION: Final = 41
COLUMNS: Final = 24
DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
"""Whatever the variable `datasource` says."""

BLUE, GREEN, ORANGE, RED = "blue", "green", "orange", "red"

_REFS: Final = "ABCDEFGHIJ"


class View(StrEnum):
    """Kinds of panels."""

    LINES = "timeseries"
    NUMBER = "stat"
    TABLE = "table"
    STATES = "state-timeline"


@dataclass(frozen=True, slots=True)
class Query:
    """One expression. `legend` names its series ({{label}} stands for a label's value), in a table its column.

    `dashed`: what another query of the panel is measured by. It has that one's names, so that both have one colour, and
    is left out of the legend.
    """

    expression: str
    legend: str
    dashed: bool = False
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    `steps` are values from which another colour begins. `hidden` are labels that a table does not show, `link` is one
    of its columns and where that leads, `states` are words and colours for values.
    """

    title: str
    text: str
    unit: str
    queries: tuple[Query, ...]
    view: View = View.LINES
    width: int = 8
    height: int = 8
    stacked: bool = False
    most: float | None = None
    steps: tuple[tuple[float | None, str], ...] = ((None, BLUE),)
    hidden: tuple[str, ...] = ()
    link: tuple[str, str] | None = None
    states: tuple[tuple[float, str, str], ...] = ()

    @property
    def is_instant(self) -> bool:
        """Only the newest values are shown."""
        return self.view in (View.NUMBER, View.TABLE)


def bad_from(value: float) -> tuple[tuple[float | None, str], ...]:
    """Steps: green, and red from this value on."""
    return ((None, GREEN), (value, RED))


def number(
    title: str, text: str, expression: str, *, unit: str = "short", steps: tuple[tuple[float | None, str], ...] = ()
) -> Panel:
    """A small panel of one number."""
    queries = (Query(expression, title),)
    return Panel(title, text, unit, queries, View.NUMBER, width=4, height=4, steps=steps or ((None, BLUE),))


@dataclass(frozen=True, slots=True)
class Row:
    """A title with panels below it."""

    title: str
    panels: tuple[Panel, ...]


def laid_out(rows: tuple[Row, ...]) -> list[Json]:
    """All panels with their ids and places, from left to right and from top to bottom. A panel that is added at the end
    of its row changes no other's id: links to panels have it."""
    found: list[Json] = []
    top = 0
    for number, row in enumerate(rows, 1):
        found.append(_row_json(row, 100 * number, top))
        top += 1
        left, height = 0, 0
        for panel_id, panel in zip(count(100 * number + 1), row.panels, strict=False):
            if left + panel.width > COLUMNS:
                left, top, height = 0, top + height, 0
            place = {"h": panel.height, "w": panel.width, "x": left, "y": top}
            found.append({"id": panel_id, "gridPos": place, **panel_json(panel)})
            left, height = left + panel.width, max(height, panel.height)
        top += height
    return found


def _row_json(row: Row, row_id: int, top: int) -> Json:
    place = {"h": 1, "w": COLUMNS, "x": 0, "y": top}
    return {"id": row_id, "gridPos": place, "type": "row", "title": row.title, "collapsed": False, "panels": []}


def panel_json(panel: Panel) -> Json:
    """A panel without its id and place."""
    shown: Json = {
        "type": panel.view.value,
        "title": panel.title,
        "description": panel.text,
        "datasource": DATASOURCE,
        "targets": [_target(panel, query, ref) for query, ref in zip(panel.queries, _REFS, strict=False)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": _overrides(panel)},
        "options": _options(panel),
    }
    if panel.view is View.TABLE:
        shown["transformations"] = _one_table(panel)
    return shown


def _target(panel: Panel, query: Query, ref: str) -> Json:
    return {
        "datasource": DATASOURCE,
        "expr": query.expression,
        "format": "table" if panel.view is View.TABLE else "time_series",
        "instant": panel.is_instant,
        "range": not panel.is_instant,
        "legendFormat": query.legend,
        "refId": ref,
    }


def _defaults(panel: Panel) -> Json:
    steps = [{"value": value, "color": colour} for value, colour in panel.steps]
    defaults: Json = {
        "unit": panel.unit,
        "color": {"mode": "palette-classic-by-name" if panel.view is View.LINES else "thresholds"},
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    if panel.view is View.LINES:
        defaults["min"] = 0
    if panel.most is not None:
        defaults["max"] = panel.most
    if panel.states:
        worded = {f"{value:g}": {"text": text, "color": colour} for value, text, colour in panel.states}
        defaults["mappings"] = [{"type": "value", "options": worded}]
    if custom := _custom(panel):
        defaults["custom"] = custom
    return defaults


def _custom(panel: Panel) -> Json:
    if panel.view is View.STATES:
        return {"fillOpacity": 80, "lineWidth": 0}
    if panel.view is not View.LINES:
        return {}
    return {
        "drawStyle": "line",
        "lineWidth": 2,
        "fillOpacity": 40 if panel.stacked else 0,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if len(panel.steps) > 1 else "off"},
    }


def _overrides(panel: Panel) -> list[Json]:
    found: list[Json] = []
    for query, ref in zip(panel.queries, _REFS, strict=False):
        properties: list[Json] = []
        if query.dashed:
            properties.append({"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [6, 6]}})
            properties.append({"id": "custom.hideFrom", "value": {"legend": True, "tooltip": False, "viz": False}})
        if query.unit is not None:
            properties.append({"id": "unit", "value": query.unit})
        if properties:
            matcher = ("byName", query.legend) if panel.view is View.TABLE else ("byFrameRefID", ref)
            found.append(_override(*matcher, *properties))
    if panel.link is not None:
        column, address = panel.link
        linked = {"title": "Runbook", "url": address, "targetBlank": True}
        found.append(_override("byName", column, {"id": "links", "value": [linked]}))
    return found


def _override(matcher: str, options: str, *properties: Json) -> Json:
    return {"matcher": {"id": matcher, "options": options}, "properties": list(properties)}


def _options(panel: Panel) -> Json:
    newest = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    match panel.view:
        case View.LINES:
            legend = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
            return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
        case View.NUMBER:
            return {"colorMode": "value", "graphMode": "none", "reduceOptions": newest, "textMode": "value"}
        case View.STATES:
            legend = {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []}
            return {"legend": legend, "mergeValues": True, "rowHeight": 0.8, "showValue": "auto"}
        case View.TABLE:
            return {"cellHeight": "sm", "showHeader": True}


def _one_table(panel: Panel) -> list[Json]:
    """Rows of several queries that have the same labels become one row; a query's column has its legend as its name."""
    several = len(panel.queries) > 1
    names = {
        f"Value #{ref}" if several else "Value": query.legend for query, ref in zip(panel.queries, _REFS, strict=False)
    }
    hidden = {name: True for name in ("Time", *panel.hidden)}
    organised = {"id": "organize", "options": {"excludeByName": hidden, "indexByName": {}, "renameByName": names}}
    return [{"id": "merge", "options": {}}, organised]
