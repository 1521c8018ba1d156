"""The user that a client names in its request: one of its own, never an identity.

It splits only the share of the tenant that sent the request, so it needs no proof. Pure functions.
"""

from typing import Final

from msgspec import Raw

from fairqueue_proxy.engines.fields import Fields, decode_object, text

MAX_CHARACTERS: Final = 256


def user_of(fields: Fields) -> str | None:
    """OpenAI's `user`; None if there is none, or none of a decent length."""
    return _decent(fields.get("user"))


def user_of_metadata(fields: Fields) -> str | None:
    """Anthropic's `metadata.user_id`."""
    return _decent((decode_object(fields.get("metadata")) or {}).get("user_id"))


def _decent(raw: Raw | None) -> str | None:
    # Of a value too long even if each character were escaped nothing has to be decoded.
    if raw is None or len(raw) > 12 * MAX_CHARACTERS + 2:
        return None
    user = text(raw)
    return user if user is not None and 1 <= len(user) <= MAX_CHARACTERS else None
