"""The scheduler core: Virtual Token Counters (VTC, OSDI '24) on a weighted tree, for use outside the engine.

Pure and synchronous, standard library only; see `core` for the life of a request.
"""

from fairqueue_proxy.scheduler.core import Scheduler
from fairqueue_proxy.scheduler.cost import MICRO, Cost
from fairqueue_proxy.scheduler.prediction import Prediction
from fairqueue_proxy.scheduler.tree import Gap, Limits, Node, Request, State

__all__ = ["MICRO", "Cost", "Gap", "Limits", "Node", "Prediction", "Request", "Scheduler", "State"]
