"""What of a proxy decides: the tenants of a policy, the queue before them, the engine's budgets. No I/O, no clock of
its own: the proxy puts sockets around it, the fairness lab (`fairqueue simulate`) virtual time.
"""

import random
from collections.abc import Callable

from fairqueue_api import Document
from fairqueue_proxy.backlog import Backlog, Bounds
from fairqueue_proxy.capacity import Capacity, KvNeed, Limits
from fairqueue_proxy.dispatcher import Dispatcher
from fairqueue_proxy.entitlement import Entitlement
from fairqueue_proxy.scheduler import Cost, Prediction, Request, Scheduler
from fairqueue_proxy.tenants import Tenants

TGI_PIECE_TOKENS = 1024
NO_QUEUE = Bounds(1, 1, 1, 1)
"""Before there is a policy nothing is queued."""


class PolicyInForce:
    """`kind` is the engine's, as in a policy."""

    def __init__(self, kind: str, clock: Callable[[], float], random_source: random.Random) -> None:
        self.entitlement = Entitlement(clock)
        scheduler = Scheduler(
            clock=clock,
            before_activity=self.entitlement.before_activity,
            before_flight=self.entitlement.before_flight,
            after_removal=self.entitlement.after_removal,
        )
        self.tenants = Tenants(scheduler, self.entitlement)
        self.dispatcher = Dispatcher(
            scheduler, Capacity(Limits(), kv_need(kind), clock), Backlog(NO_QUEUE), clock, random_source
        )

    def apply(self, document: Document) -> None:
        """Brings a document into force; what is queued and in flight stays, counters are kept. To be followed by the
        dispatcher's `pump`."""
        dispatcher = self.dispatcher
        scheduler, pressure, queue = dispatcher.scheduler, document.backpressure, document.queue
        scheduler.cost, scheduler.prediction = _cost(document), Prediction(document.cost.prediction)
        dispatcher.moved(self.tenants.apply(document, dispatcher.queued_requests, dispatcher.member_of))
        dispatcher.capacity.apply(
            Limits(pressure.max_requests, pressure.max_tokens, pressure.max_prefill_tokens),
            kv_need(document.engine.kind),
        )
        dispatcher.backlog.bounds = Bounds(
            queue.max_requests, queue.max_requests_per_tenant, queue.max_bytes, queue.max_bytes_per_tenant
        )


def _cost(document: Document) -> Cost:
    """The policy's cost function."""
    spec, quadratic = document.cost, document.cost.quadratic
    return Cost(
        input_token=spec.input_token,
        output_token=spec.output_token,
        request=spec.request,
        cached_input_percent=spec.cached_input_percent,
        input_input_per_million=quadratic.input_input_per_million if quadratic else 0,
        input_output_per_million=quadratic.input_output_per_million if quadratic else 0,
        output_output_per_million=quadratic.output_output_per_million if quadratic else 0,
    )


def kv_need(kind: str) -> KvNeed:
    """KV-cache tokens that an engine of this kind has for a request; `reserved` with what it is expected to need."""

    def tgi(request: Request, *, reserved: bool) -> int:
        # TGI allocates for pieces of at most 1024 output tokens, up front.
        longest = request.max_output_tokens // request.sequences
        return request.prompt_tokens + min(longest, TGI_PIECE_TOKENS) * request.sequences

    def others(request: Request, *, reserved: bool) -> int:
        predicted = request.predicted_tokens if reserved else 0
        return request.prompt_tokens + max(request.output_tokens, predicted)

    return tgi if kind == "TGI" else others
