"""Which metrics and labels an expression names, and which labels its result has: as much of PromQL as our rules and
panels use. What it does not know it refuses."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import promql_parser as promql

Labels = frozenset[str]

SET_OPERATORS = {"and", "or", "unless"}
# Of functions of a vector: all that ours use and that leave labels as they are.
TRANSPARENT = {"rate", "increase", "avg_over_time", "min_over_time", "max_over_time"}


@dataclass(slots=True)
class Checking:
    """`known` has the labels of each metric, `values` what fixed labels may be; `problems` says what is wrong."""

    known: Mapping[str, Labels]
    values: Mapping[str, frozenset[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def result(self, expression: str) -> Labels:
        """The labels that the expression's series have; those that only some of them have are left out."""
        return self._of(promql.parse(expression)) or frozenset()

    def _of(self, node: promql.Expr) -> Labels | None:
        """None: a number or a text."""
        match node:
            case promql.NumberLiteral() | promql.StringLiteral():
                return None
            case promql.ParenExpr() | promql.UnaryExpr():
                return self._of(node.expr)
            case promql.MatrixSelector():
                return self._of(node.vector_selector)
            case promql.VectorSelector():
                return self._selected(node)
            case promql.AggregateExpr():
                return self._aggregated(node)
            case promql.Call():
                return self._called(node)
            case promql.BinaryExpr():
                return self._combined(node)
        raise TypeError(f"not known: {node}")

    def _selected(self, node: promql.VectorSelector) -> Labels:
        assert node.name is not None
        if node.name not in self.known:
            self.problems.append(f"nobody has {node.name}")
            return frozenset()
        labels = self.known[node.name]
        for matcher in node.matchers.matchers:
            self._need([matcher.name], labels, node.name)
            self._need_value(matcher)
        return labels

    def _need_value(self, matcher: promql.Matcher) -> None:
        if matcher.name not in self.values:
            return
        exact = matcher.op in (promql.MatchOp.Equal, promql.MatchOp.NotEqual)
        for wanted in [matcher.value] if exact else matcher.value.split("|"):
            pattern = re.escape(wanted) if exact else wanted
            if not any(re.fullmatch(pattern, value) for value in self.values[matcher.name]):
                self.problems.append(f"{matcher.name} is never {wanted}")

    def _aggregated(self, node: promql.AggregateExpr) -> Labels:
        inner = self._of(node.expr)
        assert inner is not None
        if node.modifier is None:
            return frozenset()
        self._need(node.modifier.labels, inner, str(node.expr))
        listed = frozenset(node.modifier.labels)
        return listed if node.modifier.type == promql.AggModifierType.By else inner - listed

    def _called(self, node: promql.Call) -> Labels | None:
        arguments = [self._of(it) for it in node.args]
        match node.func.name:
            case "time":
                return None
            case "vector" | "absent":
                return frozenset()
            case "label_replace":
                assert arguments[0] is not None
                target, source = node.args[1].val, node.args[3].val
                self._need([source] if source else [], arguments[0], str(node))
                return arguments[0] | {target}
            case "histogram_quantile":
                assert arguments[1] is not None
                self._need(["le"], arguments[1], str(node))
                return arguments[1] - {"le"}
            case name if name in TRANSPARENT:
                return arguments[0]
        raise TypeError(f"not known: {node.func.name}")

    def _combined(self, node: promql.BinaryExpr) -> Labels | None:
        left, right = self._of(node.lhs), self._of(node.rhs)
        if left is None or right is None:
            return left if right is None else right
        operator, matching = str(node.op), node.modifier.matching if node.modifier else None
        if matching is None:
            if left != right and operator != "or":
                self.problems.append(f"never match: {', '.join(sorted(left ^ right))} on one side only: {node}")
            return left & right
        listed = frozenset(matching.labels)
        included = matching.type == promql.LabelModifierType.Include
        self._need(matching.labels, left & right if included else left | right, str(node))
        if operator in SET_OPERATORS:
            return left & right if operator == "or" else left
        return self._arithmetic(node, left, right, listed if included else (left | right) - listed)

    def _arithmetic(self, node: promql.BinaryExpr, left: Labels, right: Labels, matched: Labels) -> Labels:
        assert node.modifier is not None
        taken = node.modifier.group_labels or []
        match node.modifier.card:
            case promql.VectorMatchCardinality.ManyToOne:
                self._need(taken, right, str(node.rhs))
                return left | set(taken)
            case promql.VectorMatchCardinality.OneToMany:
                self._need(taken, left, str(node.lhs))
                return right | set(taken)
        return matched & left & right

    def _need(self, wanted: Iterable[str], labels: Labels, where: str) -> None:
        self.problems += [f"no label {label}: {where}" for label in wanted if label not in labels]
