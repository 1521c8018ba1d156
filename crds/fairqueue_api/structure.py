"""Checks the shape of a policy against the models, and says in the users' words what does not fit.

pydantic's own sentences are never shown: they name Python types, and may repeat what the user wrote.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, cast, get_args

from pydantic import BaseModel, ValidationError

from .errors import PolicyError, Problem
from .models import API_VERSION, DNS_LABEL, DNS_SUBDOMAIN, HTTPS, KIND, FairnessPolicy

_PATH_NAME_CHARACTERS = 64

# pydantic's error type → what is wrong, what to do; the names in braces are the limits that pydantic reports.
_SENTENCES = {
    "missing": ("is missing", "add it"),
    "string_too_short": ("must not be empty", "write a value"),
    "string_too_long": ("is longer than {max_length} characters", "shorten it"),
    "bool_type": ("must be true or false", "write it without quotes"),
    "int_type": ("must be a whole number", "write it without quotes and without a fraction"),
    "greater_than_equal": ("must be at least {ge}", "raise it"),
    "less_than_equal": ("must be at most {le}", "lower it"),
    "too_short": ("must have at least {min_length} entry", "add one"),
    "too_long": ("has more than {max_length} entries", "remove some"),
    "list_type": ("must be a list", "start each entry with '- '"),
    "dict_type": ("must be a mapping", "write its fields as name: value"),
    "model_type": ("must be a mapping", "write its fields as name: value"),
}

_NAME = "is not a valid name", "use a-z, 0-9 and '-', with a letter or digit at both ends"
_PATTERNS = {
    DNS_LABEL: _NAME,
    DNS_SUBDOMAIN: (_NAME[0], "use a-z, 0-9, '.' and '-', with a letter or digit at both ends"),
    HTTPS: ("must begin with https://", "write the whole address"),
}

Location = Sequence[int | str]
# One of `ValidationError.errors()`: type, loc, input, and ctx with the limits.
Fault = dict[str, Any]


def parse_structure(content: Mapping[str, object], source: str) -> FairnessPolicy:
    """The policy in `content`, each field well formed. Raises `PolicyError` with every field that is not."""
    problems = _kind_problems(content, source)
    if problems:
        raise PolicyError(problems)
    try:
        return FairnessPolicy.model_validate(content)
    except ValidationError as error:
        faults = cast("list[Fault]", error.errors(include_url=False))
    # A misspelt field is the reason why another one is missing: it comes first.
    faults.sort(key=lambda fault: fault["type"] != "extra_forbidden")
    raise PolicyError([_problem(fault, source) for fault in faults])


def field_path(location: Location) -> str:
    """A place in the file as users write it: `spec.tenants[2].weight`."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            name = part if len(part) <= _PATH_NAME_CHARACTERS else part[:_PATH_NAME_CHARACTERS] + "…"
            path += f".{name}" if path else name
    return path


def _kind_problems(content: Mapping[str, object], source: str) -> list[Problem]:
    # Another resource altogether would be reported as a heap of unknown fields.
    expected = {"apiVersion": API_VERSION, "kind": KIND}
    return [
        Problem(source, name, f"must be {value}" if name in content else "is missing", f"write {name}: {value}")
        for name, value in expected.items()
        if content.get(name) != value
    ]


def _problem(fault: Fault, source: str) -> Problem:
    path = field_path(fault["loc"])
    context = fault.get("ctx", {})
    kind = fault["type"]
    if kind == "extra_forbidden":
        return _unknown_field(fault["loc"], path, source)
    if kind == "literal_error":
        choices = context["expected"].replace("'", "")
        return Problem(source, path, "is not one of the values it can have", f"use {choices}")
    if kind == "string_type":
        scalar = isinstance(fault["input"], bool | int | float)
        return Problem(source, path, "must be a string", "put it in quotes" if scalar else "write a single value")
    if kind == "string_pattern_mismatch":
        return Problem(source, path, *_PATTERNS[context["pattern"]])
    what, fix = _SENTENCES.get(kind, ("is not valid", "compare it with the policy reference"))
    return Problem(source, path, what.format(**context), fix)


def _unknown_field(location: Location, path: str, source: str) -> Problem:
    close = get_close_matches(str(location[-1]), _field_names(location[:-1]), n=1)
    return Problem(source, path, "unknown field", f"did you mean {close[0]}?" if close else "remove it")


def _field_names(location: Location) -> list[str]:
    model: type[BaseModel] = FairnessPolicy
    for part in location:
        if isinstance(part, str):
            annotation = next(field.annotation for field in model.model_fields.values() if field.alias == part)
            model = _model_in(annotation)
    return [field.alias for field in model.model_fields.values() if field.alias]


def _model_in(annotation: object) -> type[BaseModel]:
    """The model that an annotation such as `list[Tenant]` or `Quadratic | None` speaks of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(_model_in(argument) for argument in get_args(annotation) if argument is not type(None))
