"""A policy's selector as the API server takes it in a query. Pure."""

from fairqueue_api.models import LabelExpression, Selector


def query_of(selector: Selector) -> str:
    """The value of `labelSelector`. Empty, which selects everything, for a selector without any condition, which the
    CRD refuses."""
    exact = [f"{key}={value}" for key, value in sorted(selector.match_labels.items())]
    return ",".join([*exact, *map(_condition, selector.match_expressions)])


def _condition(expression: LabelExpression) -> str:
    match expression.operator:
        case "In":
            return f"{expression.key} in ({','.join(expression.values)})"
        case "NotIn":
            return f"{expression.key} notin ({','.join(expression.values)})"
        case "Exists":
            return expression.key
        case "DoesNotExist":
            return f"!{expression.key}"
