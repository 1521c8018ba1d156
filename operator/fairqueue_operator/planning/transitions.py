"""Which Events tell of a policy: one for each condition whose status or reason has changed, or of which somebody has
to do something about since; none for all else.
"""

from typing import Any, Final

from fairqueue_api.models import API_VERSION, KIND

from ..cluster_model import Resource
from ..event_notes import NOTE_BYTES, Note
from ..text_limits import fitted
from .conditions import conditions_of
from .policy_facts import PolicyFacts
from .programming import tells_of_refusals

# On the way to something that holds: nobody has to do anything, unless proxies say that they cannot go there.
_PASSING: Final = frozenset({"Pending", "PartiallyProgrammed"})


def notes_of(policy: PolicyFacts, old: Resource, new: Resource) -> list[Note]:
    """What is to be told when the status `new` follows `old`; `old` is empty for a policy that has had none.

    Ready, where it does not hold, says what another condition says: that is told once.
    """
    before = conditions_of(old)
    changed = [
        condition
        for type_, condition in conditions_of(new).items()
        if _told_by(condition) != _told_by(before.get(type_, {}))
    ]
    return list(dict.fromkeys(_note(policy, condition) for condition in changed))


def _told_by(condition: Resource) -> tuple[Any, Any, bool]:
    return condition.get("status"), condition.get("reason"), _is_fine(condition)


def _is_fine(condition: Resource) -> bool:
    is_passing = condition.get("reason") in _PASSING and not tells_of_refusals(condition.get("message", ""))
    return condition.get("status") == "True" or is_passing


def _note(policy: PolicyFacts, condition: Resource) -> Note:
    return Note(
        namespace=policy.namespace,
        owner=(API_VERSION, KIND, policy.name, policy.uid),
        reason=condition["reason"],
        text=fitted(condition["message"], NOTE_BYTES),
        type="Normal" if _is_fine(condition) else "Warning",
    )
