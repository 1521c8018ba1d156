"""Quantities are compared by what they are, not by how they are written."""

from fractions import Fraction

import pytest

from fairqueue_operator.injection import Reason, decide
from fairqueue_operator.injection.quantities import parse_quantity
from injection.golden_files import SETTINGS
from injection.making import injected, made_pod, made_policy

PREFIX = "fairqueue.dev/proxy-"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("0.5", Fraction(1, 2)),
        (".5", Fraction(1, 2)),
        ("1.", 1),
        ("100m", Fraction(1, 10)),
        ("5u", Fraction(5, 10**6)),
        ("7n", Fraction(7, 10**9)),
        ("2k", 2000),
        ("1.5Gi", 3 * 2**29),
        ("1G", 10**9),
        ("1E", 10**18),
        ("1Ei", 2**60),
        ("1e3", 1000),
        ("1E-2", Fraction(1, 100)),
        (2, 2),
        (0.5, Fraction(1, 2)),
    ],
)
def test_a_quantity_is_the_number_that_it_stands_for(text: object, expected: Fraction | int) -> None:
    assert parse_quantity(text) == expected


@pytest.mark.parametrize(
    "text", ["", "x", "1 Gi", "512MB", "1ki", "-1", "1e", "1e999", None, "1_0", "\uff11", "." * 30]
)
def test_what_is_no_quantity_is_none(text: object) -> None:
    assert parse_quantity(text) is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("100m", None, "128Mi", "512Mi")),
        ({"cpu-request": "250m"}, ("250m", None, "128Mi", "512Mi")),
        ({"cpu-limit": "2"}, ("100m", "2", "128Mi", "512Mi")),
        ({"cpu-limit": "50m"}, ("50m", "50m", "128Mi", "512Mi")),
        ({"memory-limit": "1Gi"}, ("100m", None, "128Mi", "1Gi")),
        ({"memory-limit": "320Mi"}, ("100m", None, "128Mi", "320Mi")),
        ({"memory-request": "2Gi"}, ("100m", None, "2Gi", "2Gi")),
    ],
)
def test_annotations_stand_before_defaults_which_give_way(
    given: dict[str, str], expected: tuple[str | None, ...]
) -> None:
    pod = made_pod({"args": ["x"]}, annotations={PREFIX + name: value for name, value in given.items()})
    resources = injected(pod, made_policy())["spec"]["initContainers"][0]["resources"]
    requests, limits = resources["requests"], resources["limits"]
    assert (requests["cpu"], limits.get("cpu"), requests["memory"], limits["memory"]) == expected


@pytest.mark.parametrize(
    "given",
    [
        {"cpu-request": "much"},
        {"cpu-limit": "0"},
        {"memory-limit": "319Mi"},
        {"memory-request": "2Gi", "memory-limit": "1Gi"},
    ],
)
def test_an_annotation_that_cannot_be_used_is_denied_by_its_name(given: dict[str, str]) -> None:
    pod = made_pod({"args": ["x"]}, annotations={PREFIX + name: value for name, value in given.items()})
    decision = decide(pod, [made_policy()], SETTINGS)
    assert decision.reason is Reason.BAD_ANNOTATION
    assert PREFIX + next(iter(given)) in decision.detail


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"cpu": "1", "memory": "512Mi"}),
        ({"cpu-request": "2"}, {"cpu": "2", "memory": "512Mi"}),
        ({"memory-limit": "1Gi"}, {"cpu": "1", "memory": "1Gi"}),
    ],
)
def test_a_guaranteed_pod_stays_so(given: dict[str, str], expected: dict[str, str]) -> None:
    annotations = {PREFIX + name: value for name, value in given.items()}
    engine = {"args": ["x"], "resources": {"limits": {"cpu": 4, "memory": "8Gi"}, "requests": {"cpu": "4000m"}}}
    after = injected(made_pod(engine, annotations=annotations), made_policy())
    assert after["spec"]["initContainers"][0]["resources"] == {"limits": expected, "requests": expected}
