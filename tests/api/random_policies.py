"""Random policies, drawn from the CRD's schema: names that meet, bounds just kept or just missed, fields left out."""

import random
from typing import Any

from fairqueue_api.crd import schema

SPEC = schema()["properties"]["spec"]

NAMES = ["a", "b", "c", "other", "anonymous"]
SOURCES = ["api-key", "a", "b"]
SOURCE_FIELDS = {"APIKey": "apiKey", "JWT": "jwt", "ServiceAccount": "serviceAccount", "Header": "header"}
TEXTS = {
    "name": NAMES,
    "group": NAMES[:3],
    "parent": NAMES[:3],
    "source": SOURCES,
    "value": ["a", "b", " a", "a\tb"],
    "header": ["Authorization", "x-key", "x key", "Host"],
    "key": ["k", "l"],
    "issuer": ["https://a", "http://a"],
    "jwksURI": ["https://a"],
    "container": ["engine", "Engine"],
}
DURATIONS = [
    "0", "0s", "1s", "5s", "60s", "1m", "1m1ms", "1m1s", "5m", "5m1ms", "300.001s", "1h", "60m", "1h1ns", "1.5h",
    "50ms", "49ms", "49999999ns", "500ms", "0.05s", ".5s", "1.s", "-1s", "+5s", "-0s", "1h1h", "1d", "5", "s",
    "1e3s", "3601s", "",
]  # fmt: skip
CIDRS = [
    "10.0.0.0/8", "10.1.2.3/8", "0.0.0.0/0", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/08", "010.0.0.0/8", "10.0.0/8",
    "/8", "fd00::/8", "::/0", "::1/128", "::/129", "::ffff:10.0.0.0/104", "::10.0.0.1/128", "fe80::1%eth0/64",
    "1:2:3:4:5:6:7::/64", "10.0.0.0/+8", "10.0.0.0/8/8", "10.0.0.0/255.0.0.0",
    " 10.0.0.0/8", "\u0661.0.0.0/8", "10.0.0.0/\u0668",
]  # fmt: skip
WRONG = [None, "", "x", "A_", "a\n", "a" * 64, "a" * 400, -1, 0, 1001, 10**6 + 1, 2**31, 2**63, 1.5, True, [], {}]
WRONG += ["1", "yes", ["x"], {"unknown": 1}, [{}] * 300]


def random_policy(seed: int, *, faults: bool) -> dict[str, Any]:
    """With `faults`, a field here and there has a value that may not fit the schema, is missing or unknown."""
    chance = random.Random(seed)
    name = chance.choice(["two-teams", "a" * 52, "a" * 53])
    return {
        "apiVersion": "fairqueue.dev/v1alpha1",
        "kind": "FairnessPolicy",
        "metadata": {"name": name},
        "spec": _Drawer(chance, 0.02 if faults else 0).value(SPEC, "spec"),
    }


class _Drawer:
    def __init__(self, chance: random.Random, fault_rate: float) -> None:
        self._chance = chance
        self._fault_rate = fault_rate

    def value(self, node: dict[str, Any], name: str) -> Any:
        if self._chance.random() < self._fault_rate:
            return self._chance.choice(WRONG)
        if "enum" in node:
            return self._chance.choice(node["enum"])
        kind = node["type"]
        if kind == "object":
            return self._object(node)
        if kind == "array":
            return self._array(node, name)
        if kind == "boolean":
            return self._chance.random() < 0.5
        return self._integer(node) if kind == "integer" else self._text(node, name)

    def _object(self, node: dict[str, Any]) -> dict[str, Any]:
        if "additionalProperties" in node:
            return {key: "x" for key in "ab" if self._chance.random() < 0.4}
        required = node.get("required", ())
        fields = {
            name: self.value(field, name)
            for name, field in node["properties"].items()
            if self._chance.random() < (1 - self._fault_rate if name in required else 0.5)
        }
        if self._chance.random() < self._fault_rate:
            fields["unknown"] = self._chance.choice([1, None])
        if fields.get("type") in list(SOURCE_FIELDS) and self._chance.random() < 0.7:
            # Most sources as they should be: else hardly any policy has one of each type.
            field = SOURCE_FIELDS[fields["type"]]
            fields = {name: value for name, value in fields.items() if name not in SOURCE_FIELDS.values()}
            fields[field] = self.value(node["properties"][field], field)
        return fields

    def _array(self, node: dict[str, Any], name: str) -> list[Any]:
        fewest = node.get("minItems", 0)
        return [self.value(node["items"], name) for _ in range(self._chance.randint(fewest, 4))]

    def _integer(self, node: dict[str, Any]) -> int:
        return int(self._chance.choice([node.get("minimum", 0), node.get("maximum", 2**31 - 1)]))

    def _text(self, node: dict[str, Any], name: str) -> str:
        rules = " ".join(rule["rule"] for rule in node.get("x-kubernetes-validations", ()))
        texts = DURATIONS if "duration" in rules else CIDRS if "isCIDR" in rules else TEXTS.get(name, ["x", "y"])
        if not self._fault_rate:
            # What the structural schema refuses is no matter of rules.
            texts = [text for text in texts if text not in ("Engine", "http://a")]
        return self._chance.choice(texts)
