"""Reads bodies as FastAPI and pydantic do: leniently, so that `"stream": "true"` streams and `"n": "2"` is two.

What pydantic does not take is refused in vLLM's words, which list pydantic's errors.
"""

import json
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from fairqueue_sim.refusal import Refusal
from fairqueue_sim.wire import HttpRequest

__all__ = ["UNREADABLE", "LaxModel", "read_json", "validated"]

UNREADABLE = Refusal(400, "There was an error parsing the body", "detail")
TOO_LARGE = Refusal(413, "Request body too large", "Bad Request")
MAX_LISTED_ERRORS = 10
# Which member of a union pydantic tried is not said.
_UNION_TAG = re.compile(r"str|int|(list|dict|constrained-|function-|nullable)\b.*")

Body = dict[str, Any]
M = TypeVar("M", bound="LaxModel")


class LaxModel(BaseModel):
    """A body; unknown fields are accepted."""

    model_config = ConfigDict(extra="ignore")


def read_json(request: HttpRequest) -> object:
    """The JSON value of the body, None if it is empty; raises Refusal."""
    if request.too_large:
        raise TOO_LARGE
    kind = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        raise _refusal(["Unsupported Media Type: Only 'application/json' is allowed"], None)
    if not request.body:
        return None
    try:
        value: object = json.loads(request.body)
    except json.JSONDecodeError as error:
        found = {
            "type": "json_invalid",
            "loc": f"body.{error.pos}",
            "msg": "JSON decode error",
            "input": _described({}),
            "ctx": {"error": error.msg},
        }
        raise _refusal([str(found)], f"body.{error.pos}") from None
    except UnicodeDecodeError:
        raise UNREADABLE from None
    return value


def validated(value: object, kind: type[M]) -> M:
    """The body as `kind`; raises Refusal."""
    if value is None:
        missing = {"type": "missing", "loc": "body", "msg": "Field required", "input": "None"}
        raise _refusal([str(missing)], "body")
    try:
        return kind.model_validate(value, from_attributes=True)
    except ValidationError as error:
        found = [_error(each) for each in error.errors(include_url=False)]
    raise _refusal([str(each) for each in found], str(found[0]["loc"]))


def _error(error: Any) -> Body:
    place = [str(part) for part in error["loc"] if isinstance(part, int) or not _UNION_TAG.fullmatch(part)]
    found = {
        "type": error["type"],
        "loc": ".".join(["body", *place]),
        "msg": error["msg"],
        "input": _described(error["input"]),
    }
    return found | ({"ctx": error["ctx"]} if "ctx" in error else {})


def _described(value: object) -> str:
    if isinstance(value, dict | list):
        return f"<{type(value).__name__} of {len(value)} items>"
    return str(value)


def _refusal(errors: list[str], param: str | None) -> Refusal:
    listed = "".join(f"\n  {each}" for each in errors[:MAX_LISTED_ERRORS])
    if len(errors) > MAX_LISTED_ERRORS:
        listed += f"\n  ...and {len(errors) - MAX_LISTED_ERRORS} more errors"
    number = "1 validation error" if len(errors) == 1 else f"{len(errors)} validation errors"
    return Refusal(400, f"{number}:{listed}", "Bad Request", param)
