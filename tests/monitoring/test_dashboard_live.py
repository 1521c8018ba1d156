"""The dashboard in front of a real Prometheus that reads real proxies: no panel stays empty."""

import asyncio
import math
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairqueue_monitoring.dashboard import dashboard
from fairqueue_monitoring.picture import Drawing, Span, draw, read
from fairqueue_monitoring.rule_files import Rules
from fairqueue_monitoring.selecting import filled
from monitoring.prometheus_server import Server, needs
from monitoring.scene import RATE_INTERVAL, STRANGER, scene

PATIENCE_SECONDS = 60.0
LOOK_SECONDS = 0.5
DASHBOARD = dashboard(Rules().runbooks_url)
VARIABLES = {it["name"]: it["query"]["query"] for it in DASHBOARD["templating"]["list"] if it["type"] == "query"}
_LABEL_VALUES = re.compile(r"label_values\((?P<series>.+), (?P<label>\w+)\)")


def queries() -> dict[str, str]:
    """All that the dashboard asks, by where it does."""
    asked = {f"annotation {it['name']}": it["expr"] for it in DASHBOARD["annotations"]["list"]}
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            asked[f"{panel['title']} {target['refId']}"] = target["expr"]
    asked |= {rule.name: rule.name for rule in Rules().recordings}
    return {place: filled(expression, rate_interval=RATE_INTERVAL) for place, expression in asked.items()}


def is_number(series: Mapping[str, Any]) -> bool:
    return math.isfinite(float(series["value"][1]))


async def unanswered(server: Server, asked: Mapping[str, str]) -> dict[str, str]:
    """Those that find nothing, or no number."""
    return {
        place: expression
        for place, expression in asked.items()
        if not any(map(is_number, await server.query(expression)))
    }


async def chosen(server: Server, variable: str) -> set[str]:
    """What a variable lets one choose."""
    found = _LABEL_VALUES.fullmatch(filled(VARIABLES[variable], rate_interval=RATE_INTERVAL))
    assert found is not None
    answer = await server.get(f"/api/v1/label/{found['label']}/values", **{"match[]": found["series"]})
    return set(answer["data"])


@needs("prometheus")
async def test_every_query_of_the_dashboard_and_every_recorded_series_has_data(tmp_path: Path) -> None:
    async with scene(tmp_path) as server:
        left = queries()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while left := await unanswered(server, left):
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            assert left == {}, "these found nothing"
        assert await chosen(server, "policy") == {"default/shared", "default/watched"}
        assert await chosen(server, "tenant") == {"batch", "chat", "other", "reports"}
        assert len(await chosen(server, "instance")) == 2
        await the_variables_choose(server)
        await the_picture_is_drawn(server, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").exists()


async def the_variables_choose(server: Server) -> None:
    (served, *_) = next(it["targets"] for it in DASHBOARD["panels"] if it["title"] == "Served and entitled")
    expression = filled(served["expr"], rate_interval=RATE_INTERVAL, policy="default/shared", tenant="chat|batch")
    found = {(it["metric"]["policy"], it["metric"]["tenant"]) for it in await server.query(expression)}
    assert found == {("default/shared", "chat"), ("default/shared", "batch")}
    (refused,) = next(it["targets"] for it in DASHBOARD["panels"] if it["title"] == "Refused, by tenant")
    series = await server.query(filled(refused["expr"], rate_interval=RATE_INTERVAL))
    found_refused = {it["metric"].get("tenant", "") for it in series}
    # Whoever has no key is nobody.
    assert STRANGER not in found_refused
    assert found_refused >= {"", "batch"}


async def the_picture_is_drawn(server: Server, file: Path) -> None:
    now = time.time()
    span = Span(now - 2.0, now, 0.25, RATE_INTERVAL)
    panels = await asyncio.to_thread(read, server.url, span)
    assert [panel.title for panel, lines in panels if not lines] == []
    draw(Drawing(panels, span.end - span.start, span.step), file)
