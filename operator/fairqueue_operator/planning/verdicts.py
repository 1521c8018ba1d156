"""What is found of one side of a policy: the part of a condition that does not depend on what was said before."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from ..text_limits import fitted

# A condition's message has 32,768 characters at most; bytes are never fewer.
MESSAGE_BYTES: Final = 32_768
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether something holds, why in one word, and why in a sentence that says what to do if it does not."""

    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str

    @property
    def holds(self) -> bool:
        """It is known to be so."""
        return self.status == "True"


def verdict(status: Literal["True", "False", "Unknown"], reason: str, message: str) -> Verdict:
    """With as much of the message as a condition can hold."""
    return Verdict(status, reason, fitted(message, MESSAGE_BYTES))


def first_named(things: Iterable[str]) -> str:
    """The first three of them, and how many there are besides."""
    named = list(things)
    more = [f"and {len(named) - _NAMED} more"] if len(named) > _NAMED else []
    return "; ".join([*named[:_NAMED], *more])
