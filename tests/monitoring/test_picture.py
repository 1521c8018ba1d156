"""The picture of the main row: names as Grafana makes them, one colour for each, no line where nothing is known."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from fairqueue_monitoring.grafana import Panel, Query
from fairqueue_monitoring.picture import Drawing, Line, Span, colours, draw, lines, name_of, read
from fairqueue_monitoring.tenant_panels import FAIRNESS

SPAN = Span(100.0, 110.0, 1.0, "5s")
SERIES = {"metric": {"tenant": "chat", "policy": "default/llm"}, "values": [[101, "1"], [102, "NaN"], [105, "2.5"]]}


class Answering(BaseHTTPRequestHandler):
    """Prometheus, with one series for whatever is asked."""

    asked: list[dict[str, list[str]]]

    def do_GET(self) -> None:
        self.asked.append(parse_qs(urlsplit(self.path).query))
        body = json.dumps({"status": "success", "data": {"result": [SERIES]}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def answering() -> Iterator[HTTPServer]:
    Answering.asked = []
    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("legend", "name"),
    [
        ("{{tenant}} ({{policy}})", "chat (default/llm)"),
        ("{{pod}} {{ tenant }}", "chat"),
        ("admission", "admission"),
    ],
)
def test_a_series_has_the_name_that_its_legend_says(legend: str, name: str) -> None:
    assert name_of(legend, SERIES["metric"]) == name


def test_times_are_counted_from_the_start() -> None:
    (line,) = lines(Query("up", "{{tenant}}", dashed=True), [SERIES], SPAN)
    assert (line.name, line.dashed) == ("chat", True)
    assert [at for at, _ in line.points] == [1.0, 2.0, 5.0]


def test_a_name_has_one_colour_in_all_panels_and_none_if_it_is_at_zero_in_all_of_them() -> None:
    panel = Panel("t", "What.", "s", ())
    points = [(0.0, 1.0)]
    first = [Line("chat", False, points), Line("batch", False, points)]
    second = [Line("batch", False, points), Line("batch", True, points), Line("more", False, points)]
    second.append(Line("nobody", False, [(0.0, 0.0)]))
    found = colours(Drawing([(panel, first), (panel, second)], 10.0, 1.0))
    assert list(found) == ["chat", "batch", "more"]
    assert len(set(found.values())) == 3


def test_every_query_of_the_row_is_asked_over_the_whole_span(answering: HTTPServer, tmp_path: Path) -> None:
    panels = read(f"http://127.0.0.1:{answering.server_port}", SPAN)
    assert [panel for panel, _ in panels] == list(FAIRNESS.panels)
    assert [len(found) for _, found in panels] == [len(panel.queries) for panel in FAIRNESS.panels]
    assert {(it["start"][0], it["end"][0], it["step"][0]) for it in Answering.asked} == {("100.0", "110.0", "1.0")}
    assert not any("$" in it["query"][0] for it in Answering.asked)
    draw(Drawing(panels, 10.0, 1.0, {5.0: "chat comes"}), tmp_path / "a" / "picture.png")
    assert (tmp_path / "a" / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_figures_give_the_same_bytes(tmp_path: Path) -> None:
    found = [(panel, lines(panel.queries[0], [SERIES], SPAN)) for panel in FAIRNESS.panels]
    for name in ("a", "b"):
        draw(Drawing(found, 10.0, 1.0), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_command_draws_what_a_running_prometheus_has(answering: HTTPServer, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{answering.server_port}"
    command = [sys.executable, "-m", "fairqueue_monitoring.picture", "--prometheus", url, "--seconds", "60"]
    subprocess.run([*command, str(tmp_path / "picture.png")], check=True)
    assert (tmp_path / "picture.png").exists()


def test_a_prometheus_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    # Of a privileged service that nobody has.
    url = "http://127.0.0.1:1"
    command = [sys.executable, "-m", "fairqueue_monitoring.picture", "--prometheus", url, str(tmp_path / "p.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"fairqueue_monitoring.picture: {url}: ")
    assert done.stderr.count("\n") == 1
