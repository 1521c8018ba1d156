"""Whether a policy's selector matches labels, as Kubernetes' label selectors do."""

from collections.abc import Mapping

from fairqueue_api.models import LabelExpression, Selector


def matches(selector: Selector, labels: Mapping[str, str]) -> bool:
    """True if every condition holds; a selector without any, which the CRD refuses, matches nothing."""
    if not selector.match_labels and not selector.match_expressions:
        return False
    return all(labels.get(key) == value for key, value in selector.match_labels.items()) and all(
        _holds(expression, labels) for expression in selector.match_expressions
    )


def _holds(expression: LabelExpression, labels: Mapping[str, str]) -> bool:
    value = labels.get(expression.key)
    match expression.operator:
        case "In":
            return value in expression.values
        case "NotIn":
            # As Kubernetes does: a label that is not there is not one of the values.
            return value not in expression.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
