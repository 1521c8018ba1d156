"""The injection of the proxy into pods, as a pure function: a pod and policies go in, a patch or a reason comes out.

Nothing here reads files, speaks to an API server, waits, or knows the time; the same pod gives the same patch.
"""

from .decision import Decision, decide
from .names import ADMIN_PORT, BOUND_POLICY, INJECT_LABEL, ON_MISSING_POLICY, POLICY_LABEL, PROXY_CONTAINER, STATUS
from .reasons import Outcome, Reason, Warned
from .settings import InjectionSettings

__all__ = [
    "ADMIN_PORT",
    "BOUND_POLICY",
    "INJECT_LABEL",
    "ON_MISSING_POLICY",
    "POLICY_LABEL",
    "PROXY_CONTAINER",
    "STATUS",
    "Decision",
    "InjectionSettings",
    "Outcome",
    "Reason",
    "Warned",
    "decide",
]
