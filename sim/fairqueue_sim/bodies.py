"""Decodes JSON bodies into msgspec structs: quickly when they are right, in serde's words when they are not."""

from typing import TypeVar

import msgspec

from fairqueue_sim.serde_errors import explain

__all__ = ["BodyError", "decode_body"]

T = TypeVar("T")


class BodyError(Exception):
    """A body that is no JSON (400), not of the wanted shape (422) or not taken for another reason."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def decode_body(body: bytes, kind: type[T]) -> T:
    """The body as `kind`; raises BodyError."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        found = explain(body, kind)
        text = str(error) if found is None else found.text
        is_syntax = not isinstance(error, msgspec.ValidationError) if found is None else found.is_syntax
    if is_syntax:
        raise BodyError(400, f"Failed to parse the request body as JSON: {text}")
    raise BodyError(422, f"Failed to deserialize the JSON body into the target type: {text}")
