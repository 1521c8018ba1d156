"""What the bytes of an API server's answer say: an object, or why there is none. Pure."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from .cluster_model import ClusterError, Conflict, Forbidden, Gone, NotFound, Unauthenticated, Unreachable

_REASON_CHARACTERS: Final = 300
_WHO_FORBIDS: Final = re.compile(
    r"exceeded quota: [-.a-z0-9]+|namespace [-a-z0-9]+ because it is being terminated"
    r"|cannot [a-z]+ resource \"secrets\"|admission webhook \"[-.a-z0-9]+\"|ValidatingAdmissionPolicy '[-.a-z0-9]+'"
)
_ERRORS: Final[Mapping[int, type[ClusterError]]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    429: Unreachable,
}


def decoded(content: bytes) -> dict[str, Any] | None:
    """The JSON object; None if it is none."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def refusal(request: str, status: int, content: bytes, *, secret: bool = False) -> ClusterError:
    """What a status of 400 or more means; with the server's own words, if there are any. If it is about a `secret`,
    only with those that say who forbids it: others may repeat what was sent."""
    kind = _ERRORS.get(status, Unreachable if status >= 500 else ClusterError)
    message = str((decoded(content) or {}).get("message") or "")
    if secret:
        message = ", ".join(_WHO_FORBIDS.findall(message)) if status == 403 else ""
    return kind(f"{request}: {status} {one_line(message)}".rstrip())


def one_line(text: str) -> str:
    """As much of it as an error needs."""
    return " ".join(text.split())[:_REASON_CHARACTERS]
