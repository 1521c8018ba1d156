"""Decodes JSON bodies into msgspec structs, quickly when they are right and with the usual words when they are not."""

from typing import TypeVar

import msgspec

__all__ = ["BodyError", "decode_body"]

T = TypeVar("T")


class BodyError(Exception):
    """A body that is no JSON (400) or not of the wanted shape (422), in the words of the TGI router's parser."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def decode_body(body: bytes, kind: type[T]) -> T:
    """The body as `kind`; raises BodyError."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise BodyError(422, f"Failed to deserialize the JSON body into the target type: {error}") from None
    except msgspec.DecodeError as error:
        raise BodyError(400, f"Failed to parse the request body as JSON: {error}") from None
