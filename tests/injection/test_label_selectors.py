"""Label selectors, compared with what Kubernetes' documentation says of each operator."""

from typing import Any

import pytest

from fairqueue_api.models import Selector
from fairqueue_operator.injection.label_selectors import matches

LABELS = {"app": "llm", "tier": "gold"}


def selector(*expressions: tuple[str, str, list[str]], **labels: str) -> Selector:
    conditions: list[dict[str, Any]] = [{"key": k, "operator": o, "values": v} for k, o, v in expressions]
    return Selector.model_validate({"matchLabels": labels, "matchExpressions": conditions})


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        pytest.param(("tier", "In", ["gold", "silver"]), True, id="in"),
        pytest.param(("tier", "In", ["silver"]), False, id="in others"),
        pytest.param(("zone", "In", ["a"]), False, id="in, without the label"),
        pytest.param(("tier", "NotIn", ["gold"]), False, id="not in"),
        pytest.param(("tier", "NotIn", ["silver"]), True, id="not in others"),
        pytest.param(("zone", "NotIn", ["a"]), True, id="not in, without the label"),
        pytest.param(("tier", "Exists", []), True, id="exists"),
        pytest.param(("zone", "Exists", []), False, id="exists, without the label"),
        pytest.param(("tier", "DoesNotExist", []), False, id="does not exist"),
        pytest.param(("zone", "DoesNotExist", []), True, id="does not exist, without the label"),
    ],
)
def test_an_expression_holds_as_kubernetes_says(expression: tuple[str, str, list[str]], expected: bool) -> None:
    assert matches(selector(expression), LABELS) is expected


def test_all_conditions_must_hold() -> None:
    assert matches(selector(("tier", "Exists", []), app="llm"), LABELS)
    assert not matches(selector(("zone", "Exists", []), app="llm"), LABELS)
    assert not matches(selector(("tier", "Exists", []), app="other"), LABELS)
    assert not matches(selector(app="llm", zone="a"), LABELS)


def test_a_selector_without_conditions_matches_nothing() -> None:
    assert not matches(selector(), LABELS)
