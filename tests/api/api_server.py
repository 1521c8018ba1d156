"""What the API server makes of a policy, from the CRD alone: defaults, structure, repeated entries, CEL.

Nothing of `fairqueue_api` but the generated schema is used, so that its own checks can be held against this.
"""

import re
import socket
from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema_rs
from cel_expr_python import cel

JSON_SCHEMA_KEYWORDS = {
    "additionalProperties", "enum", "maxItems", "maxLength", "maxProperties", "maximum", "minItems", "minLength",
    "minimum", "pattern", "required", "type",
}  # fmt: skip
INTEGER_BOUNDS = {"int32": 2**31, "int64": 2**63}


def is_cidr(text: str) -> bool:
    """`isCIDR` of Kubernetes: Go's netip.ParsePrefix, without addresses of IPv4 in IPv6."""
    host, slash, length = text.rpartition("/")
    if not slash or not re.fullmatch("0|[1-9][0-9]{0,2}", length):
        return False
    for family, bits in ((socket.AF_INET, 32), (socket.AF_INET6, 128)):
        try:
            packed = socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return int(length) <= bits and not (bits == 128 and packed.startswith(bytes(10) + b"\xff\xff"))
    return False


_OVERLOAD = cel.Overload("is_cidr", cel.Type.BOOL, [cel.Type.STRING], False, is_cidr)
_ENVIRONMENT = cel.NewEnv(variables={"self": cel.Type.DYN}, functions=[cel.FunctionDecl("isCIDR", [_OVERLOAD])])


@cache
def compiled(rule: str) -> Any:
    return _ENVIRONMENT.compile(rule)


def holds(rule: str, value: object) -> bool:
    """Whether CEL says so; an error, as for a duration that is none, is a refusal."""
    return compiled(rule).eval(data={"self": value}).value() is True


def defaulted(schema: dict[str, Any], value: Any) -> Any:
    """The value with nulls dropped and defaults filled in, as it is stored and shown to CEL."""
    if isinstance(value, list) and "items" in schema:
        return [defaulted(schema["items"], item) for item in value]
    if not isinstance(value, dict) or "properties" not in schema:
        return value
    fields = {}
    for name, field in schema["properties"].items():
        given = value.get(name)
        given = field.get("default") if given is None else given
        if given is not None:
            fields[name] = defaulted(field, given)
    return fields | {name: item for name, item in value.items() if name not in schema["properties"]}


def is_well_formed(schema: dict[str, Any], value: Any) -> bool:
    """Whether the defaulted value fits the structural schema, unknown fields being errors, as for kubectl."""
    return bool(jsonschema_rs.validator_for(strict(schema)).is_valid(value))


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    result = {name: value for name, value in schema.items() if name in JSON_SCHEMA_KEYWORDS}
    if "properties" in schema:
        result["properties"] = {name: strict(field) for name, field in schema["properties"].items()}
        result["additionalProperties"] = False
    if "items" in schema:
        result["items"] = strict(schema["items"])
    if schema.get("format") in INTEGER_BOUNDS:
        bound = INTEGER_BOUNDS[schema["format"]]
        result["minimum"] = max(schema.get("minimum", -bound), -bound)
        result["maximum"] = min(schema.get("maximum", bound - 1), bound - 1)
    return result


def repeated_entries(schema: dict[str, Any], value: Any) -> int:
    """How many entries of lists of kind `map` and `set` are there already."""
    if isinstance(value, dict):
        fields = schema.get("properties", {})
        return sum(repeated_entries(fields[name], item) for name, item in value.items() if name in fields)
    if not isinstance(value, list):
        return 0
    keys = schema.get("x-kubernetes-list-map-keys", [])
    count = sum(repeated_entries(schema["items"], item) for item in value)
    if schema["x-kubernetes-list-type"] == "atomic":
        return count
    entries = [tuple(item[key] for key in keys) if keys else item for item in value]
    return count + len(entries) - len(set(entries))


def values_at(value: Any, place: str) -> Iterator[Any]:
    """Every value at a place of the schema such as `spec.tenants[].name`."""
    if not place:
        yield value
        return
    part, _, rest = place.partition(".")
    below = value.get(part.removesuffix("[]"))
    if below is not None:
        for item in below if part.endswith("[]") else [below]:
            yield from values_at(item, rest)
