"""How a load run sends: what one request asks for, what all senders have in common, and which of them is opened."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Protocol

from fairqueue_cli.load_reply import CONNECTION_REFUSED, Outcome, Reply
from fairqueue_cli.load_spec import LoadPlan, SpecError

Clock = Callable[[], float]
OnToken = Callable[[Reply], None]
CONNECT_LIMIT_SECONDS = 10.0
# What the libraries raise, beside their own exceptions, for an answer that makes no sense to them.
NONSENSE = (AttributeError, KeyError, TypeError, ValueError)
_LIBRARIES = {"openai": ("fairqueue_cli.load_openai", "openai"), "tgi": ("fairqueue_cli.load_hub", "huggingface-hub")}


class TargetUnreachable(Exception):
    """Nothing listens at the target: not one request was answered."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What one request asks for, and with whose key. `user` is sent where the API has a field for it."""

    prompt: str
    max_tokens: int
    key: str | None = field(default=None, repr=False)
    user: str | None = None


@dataclass(slots=True)
class Contact:
    """Whether the target was ever there: `answered` once anything at all came back, else why it can't be reached."""

    answered: bool = False
    unreachable: str = ""

    def no_connection(self, reply: Reply, cause: str) -> None:
        """Nobody took the connection for this request."""
        reply.end(Outcome.FAILED, cause)
        if not self.answered:
            self.unreachable = cause


class Sender(Protocol):
    """One serves all requests of a run, any number at a time."""

    contact: Contact

    async def send(self, ask: Ask, reply: Reply, on_token: OnToken) -> None:
        """Fills `reply`. A cancelled call leaves it `UNFINISHED` with what had come until then."""


def require_client(plan: LoadPlan) -> None:
    """Loads what the plan sends with, so that nothing is loaded while time runs. Raises SpecError if it is missing."""
    if plan.client == "library":
        module, package = _LIBRARIES[plan.api]
        try:
            import_module(module)
        except ModuleNotFoundError as error:
            raise SpecError(
                f"--client library: {error.name} is missing: pip install {package} httpx2, or take --client http"
            ) from None


@asynccontextmanager
async def open_sender(plan: LoadPlan, clock: Clock) -> AsyncIterator[Sender]:
    """No sender limits its connections or a reply's length: a load generator must never wait in its own client."""
    async with _opening(plan)(plan, clock) as sender:
        yield sender


def _opening(plan: LoadPlan) -> Callable[[LoadPlan, Clock], AbstractAsyncContextManager[Sender]]:
    if plan.client == "http":
        from fairqueue_cli.load_http import open_http

        return open_http
    if plan.api == "tgi":
        from fairqueue_cli.load_hub import open_hub

        return open_hub
    from fairqueue_cli.load_openai import open_openai

    return open_openai


def cause_of(error: BaseException) -> str:
    """Why there is no connection, in a few words, from an exception and those below it."""
    inner = _os_error(error)
    if isinstance(inner, ConnectionRefusedError):
        return CONNECTION_REFUSED
    if inner is None:
        return "no connection"
    return (inner.strerror or str(inner) or type(inner).__name__).lower()


def _os_error(error: BaseException | None) -> OSError | None:
    """The innermost one, which the libraries wrap several times over."""
    if error is None:
        return None
    below = [*error.exceptions] if isinstance(error, BaseExceptionGroup) else [error.__cause__ or error.__context__]
    for one in below:
        if (inner := _os_error(one)) is not None:
            return inner
    return error if isinstance(error, OSError) else None
