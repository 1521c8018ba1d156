"""Checks the shape of a policy against the models, and says in the users' words what does not fit.

pydantic's own sentences are never shown: they name Python types, and may repeat what the user wrote.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, cast, get_args

from pydantic import BaseModel, ValidationError

from .durations import DurationError
from .errors import NOT_SUPPORTED_YET, PolicyError, Problem
from .models import API_VERSION, DNS_LABEL, KIND, FairnessPolicy

# Valid in v1alpha1, but this version would not act on them: taken silently, they would promise what is not held.
_FIELDS_NOT_SUPPORTED_YET = frozenset(
    {
        "spec.anonymous",
        "spec.backpressure.scrapeInterval",
        "spec.engine.apiKeySecretRef",
        "spec.engine.listen",
        "spec.identity.sources[].header",
        "spec.identity.sources[].jwt",
        "spec.identity.sources[].serviceAccount",
        "spec.queue.holdHeaders",
        "spec.tenants[].limits.tokensPerMinute",
        "spec.tenants[].subjects",
    }
)
_VALUES_NOT_SUPPORTED_YET = {
    "spec.engine.kind": frozenset({"VLLM", "SGLang"}),
    "spec.identity.onUnidentified": frozenset({"Anonymous"}),
    "spec.identity.sources[].type": frozenset({"JWT", "ServiceAccount", "Header"}),
    "spec.mode": frozenset({"Observe"}),
    "spec.tenants[].fairWithin": frozenset({"User"}),
}
_PATH_NAME_CHARACTERS = 64

# pydantic's error type → what is wrong, what to do; the names in braces are the limits that pydantic reports.
_SENTENCES = {
    "missing": ("is missing", "add it"),
    "string_too_short": ("must not be empty", "write a value"),
    "string_too_long": ("is longer than {max_length} characters", "shorten it"),
    "int_type": ("must be a whole number", "write it without quotes and without a fraction"),
    "greater_than_equal": ("must be at least {ge}", "raise it"),
    "less_than_equal": ("must be at most {le}", "lower it"),
    "too_short": ("must have at least {min_length} entry", "add one"),
    "too_long": ("has more than {max_length} entries", "remove some"),
    "list_type": ("must be a list", "start each entry with '- '"),
    "dict_type": ("must be a mapping", "write its fields as name: value"),
    "model_type": ("must be a mapping", "write its fields as name: value"),
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
        return Problem(source, path, *_bad_choice(fault))
    if kind == "string_type":
        scalar = isinstance(fault["input"], bool | int | float)
        return Problem(source, path, "must be a string", "put it in quotes" if scalar else "write a single value")
    if kind == "string_pattern_mismatch":
        return Problem(source, path, *_bad_name(context["pattern"]))
    if kind == "value_error" and isinstance(context["error"], DurationError):
        return Problem(source, path, context["error"].what, context["error"].fix)
    what, fix = _SENTENCES.get(kind, ("is not valid", "compare it with the policy reference"))
    return Problem(source, path, what.format(**context), fix)


def _unknown_field(location: Location, path: str, source: str) -> Problem:
    if _pattern_of(location) in _FIELDS_NOT_SUPPORTED_YET:
        return Problem(source, path, NOT_SUPPORTED_YET, "remove it")
    close = get_close_matches(str(location[-1]), _field_names(location[:-1]), n=1)
    return Problem(source, path, "unknown field", f"did you mean {close[0]}?" if close else "remove it")


def _bad_choice(fault: Fault) -> tuple[str, str]:
    choices = fault["ctx"]["expected"].replace("'", "")
    value = fault["input"]
    if isinstance(value, str) and value in _VALUES_NOT_SUPPORTED_YET.get(_pattern_of(fault["loc"]), ()):
        return f"{value} {NOT_SUPPORTED_YET}", f"use {choices}"
    return "is not one of the values it can have", f"use {choices}"


def _bad_name(pattern: str) -> tuple[str, str]:
    dots = "" if pattern == DNS_LABEL else ", '.'"
    return "is not a valid name", f"use a-z, 0-9{dots} and '-', with a letter or digit at both ends"


def _pattern_of(location: Location) -> str:
    return "".join("[]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")


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
