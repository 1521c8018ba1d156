"""What rules and dashboard ask for is there: every metric, every label, every value of a label that has fixed ones."""

import re
from collections.abc import Mapping
from string import Template

import pytest

from fairqueue_monitoring.alerts import Alert
from fairqueue_monitoring.dashboard import dashboard
from fairqueue_monitoring.recording import Recording
from fairqueue_monitoring.rule_files import Rules
from fairqueue_monitoring.selecting import filled
from monitoring.known_metrics import SCRAPED, checking, with_recordings
from monitoring.promql_labels import Checking, Labels

RULES = Rules()
KNOWN = with_recordings()
DASHBOARD = dashboard(RULES.runbooks_url)
TARGETS = [
    pytest.param(target, id=f"{panel['title']}: {target['refId']}")
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", [])
]
_LEGEND_LABEL = re.compile(r"\{\{(\w+)\}\}")


@pytest.mark.parametrize("target", TARGETS)
def test_a_query_of_the_dashboard_asks_for_what_there_is_and_its_legend_for_labels_that_its_series_have(
    target: Mapping[str, str],
) -> None:
    found = checking(KNOWN)
    labels = found.result(filled(target["expr"], rate_interval="1m"))
    assert found.problems == []
    assert set(_LEGEND_LABEL.findall(target["legendFormat"])) <= labels


@pytest.mark.parametrize("annotation", DASHBOARD["annotations"]["list"], ids=lambda it: it["name"])
def test_an_annotation_asks_for_what_there_is(annotation: Mapping[str, str]) -> None:
    found = checking(KNOWN)
    labels = found.result(filled(annotation["expr"], rate_interval="1m"))
    assert found.problems == []
    assert set(_LEGEND_LABEL.findall(annotation["titleFormat"])) <= labels


@pytest.mark.parametrize("rule", RULES.recordings, ids=lambda it: it.name)
def test_a_recording_rule_asks_for_what_there_is_or_was_recorded_before(rule: Recording) -> None:
    before = dict(SCRAPED)
    for earlier in RULES.recordings[: RULES.recordings.index(rule)]:
        before[earlier.name] = KNOWN[earlier.name]
    found = checking(before)
    found.result(rule.expression)
    assert found.problems == []


@pytest.mark.parametrize("alert", RULES.alerts, ids=lambda it: it.name)
def test_an_alert_asks_for_what_there_is_and_speaks_of_labels_that_it_has(alert: Alert) -> None:
    found = checking(KNOWN)
    labels = found.result(alert.expression)
    assert found.problems == []
    spoken = set(re.findall(r"\$labels\.(\w+)", alert.summary + alert.description))
    # These say where it is, as far as that is known: a PodMonitor adds them.
    asked_for_first = set(re.findall(r"\{\{ if \$labels\.(\w+)", alert.summary + alert.description))
    assert spoken <= labels | {"namespace", "pod", "instance"} | asked_for_first


def test_the_windows_that_a_recorded_name_has_are_those_of_the_rule() -> None:
    for rule in RULES.recordings:
        if window := re.search(r"(?:rate|ratio|increase)(\d+[mh])$", rule.name):
            assert set(re.findall(r"\[(\w+)\]", rule.expression)) <= {window[1]}, rule.name


A: Labels = frozenset({"job", "instance", "tenant"})


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        pytest.param("c", "nobody has c", id="metric"),
        pytest.param('a{group="x"}', "no label group", id="matcher"),
        pytest.param('a{tenant="eve"}', "tenant is never eve", id="value"),
        pytest.param('a{tenant=~"bob|eve"}', "tenant is never eve", id="alternative"),
        pytest.param("sum by (group) (rate(a[1m]))", "no label group", id="by"),
        pytest.param("sum without (group) (a)", "no label group", id="without"),
        pytest.param("a / b", "tenant on one side only", id="no-match"),
        pytest.param("a and b", "tenant on one side only", id="and"),
        pytest.param("a / on (tenant) group_left () b", "no label tenant", id="on"),
        pytest.param("a * on (job) group_left (group) b", "no label group", id="group-left"),
        pytest.param("histogram_quantile(0.5, a)", "no label le", id="buckets"),
        pytest.param('label_replace(b, "x", "", "tenant", "")', "no label tenant", id="label-replace"),
    ],
)
def test_what_is_not_there_is_found(expression: str, problem: str) -> None:
    found = Checking({"a": A, "b": A - {"tenant"}}, {"tenant": frozenset({"bob"})})
    found.result(expression)
    assert len(found.problems) == 1
    assert problem in found.problems[0]


@pytest.mark.parametrize(
    ("expression", "labels"),
    [
        ("a", A),
        ("a > 1", A),
        ("1 - a", A),
        ("rate(a[1m])", A),
        ("sum(a)", set()),
        ("max without (tenant) (a)", {"job", "instance"}),
        ("a * on (job) group_left () max by (job) (b)", A),
        ("max by (job) (b) * on (job) group_right () a", A),
        ("sum by (tenant, job) (a) / on (job) group_left () b", {"tenant", "job"}),
        ("a and on (job) b", A),
        ("sum by (job) (a) / on (job) sum by (job) (b)", {"job"}),
        ('label_replace(b, "because", "it is", "", "")', {"job", "instance", "because"}),
        ("absent(a == 1)", set()),
        ("count(a) or vector(0)", set()),
    ],
)
def test_what_is_there_has_the_labels_that_prometheus_gives_it(expression: str, labels: set[str]) -> None:
    found = Checking({"a": A, "b": A - {"tenant"}})
    assert found.result(expression) == labels
    assert found.problems == []


def test_no_variable_is_left_in_an_expression() -> None:
    for target in (it.values[0] for it in TARGETS):
        assert "$" not in filled(str(target["expr"]), rate_interval="1m")
        assert set(Template(target["expr"]).get_identifiers()) <= {"policy", "instance", "tenant", "__rate_interval"}
