"""Short words for the scheduler's tests: a clock that stands still, and the usual steps of a request's life."""

from dataclasses import dataclass

from fairqueue_proxy.scheduler import Cost, Node, Prediction, Request, Scheduler


@dataclass(slots=True)
class Clock:
    """Time that passes only when a test says so."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def plain_scheduler(clock: Clock | None = None, *, cost: Cost | None = None) -> Scheduler:
    """Plain VTC: nothing but the prompt is reserved, so that keys are easy to work out by hand."""
    return Scheduler(cost, prediction=Prediction.NONE, clock=clock or Clock())


def anything_fits(_request: Request) -> bool:
    return True


def nothing_fits(_request: Request) -> bool:
    return False


def send(core: Scheduler, leaf: Node, prompt: int = 10, longest: int = 100, *, sequences: int = 1) -> Request:
    """A queued request whose prompt is known exactly."""
    request = Request(leaf, prompt, longest, sequences=sequences, prompt_exact=True)
    core.enqueue(request)
    return request


def start_next(core: Scheduler) -> Request:
    """Dispatches the head, which must be there."""
    request = core.dispatch(anything_fits)
    assert request is not None
    core.check()
    return request


def serve(core: Scheduler, request: Request, output: int = 0) -> None:
    """The engine answers a request in flight with so many tokens."""
    core.output(request, output, exact=True)
    core.finish(request)
    core.check()


def charge(core: Scheduler, leaf: Node, units: int) -> None:
    """Has the leaf served once, for so many units; it must be the only one with work."""
    request = send(core, leaf, prompt=units)
    assert start_next(core) is request
    serve(core, request)
