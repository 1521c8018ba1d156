"""What could not be found out, as a value with the reason. Pure."""

import re
from dataclasses import dataclass
from typing import Final

from fairqueue_operator.cluster_model import ClusterError, Forbidden

# As an API server says it: verb, resource, group, and the namespace or none.
_NO_RIGHT: Final = re.compile(
    r'cannot (\w+) resource "([^"]+)" in API group "([^"]*)"(?: in the namespace "([^"]+)")?', re.ASCII
)


@dataclass(frozen=True, slots=True)
class Unknown:
    """Could not be found out; `is_forbidden`: for want of a right, so that asking again is no use."""

    because: str
    is_forbidden: bool = False


def unknown(error: ClusterError) -> Unknown:
    """What an error says; which right is missing, in the form that `kubectl auth can-i` takes."""
    missing = _NO_RIGHT.search(str(error))
    if not isinstance(error, Forbidden) or missing is None:
        return Unknown(str(error), isinstance(error, Forbidden))
    verb, resource, group, namespace = missing.groups()
    resource, slash, subresource = resource.partition("/")
    what = f"{resource}.{group}{slash}{subresource}" if group else f"{resource}{slash}{subresource}"
    place = f"in {namespace}" if namespace else "in the whole cluster"
    return Unknown(f"you have not the right to {verb} {what} {place}", is_forbidden=True)
