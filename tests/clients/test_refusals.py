"""The proxy's own refusals: which exception each client makes of them, and that its user can read why."""

from contextlib import nullcontext
from typing import NamedTuple

from clients.attempts import Failed
from clients.calls import attempt
from clients.cases import Case, cases, told_apart
from clients.conftest import OpenDoors
from clients.doors import BODY_LIMIT_BYTES
from proxy_stack import key_of


class Refusal(NamedTuple):
    """Which door, whose key, what is said; `waiting` None if nobody is to be in the way."""

    status: int
    words: str
    door: str = "usual"
    tenant: str = "alice"
    waiting: int | None = None
    path: str = ""
    prompt: str = "Say hello"


REFUSALS = {
    "a wrong key": Refusal(401, "the API key in header authorization is not known", tenant="nobody"),
    "a refused route": Refusal(403, "POST on this path is not allowed", path="/nowhere"),
    "a large body": Refusal(413, f"larger than {BODY_LIMIT_BYTES} bytes", prompt="x" * BODY_LIMIT_BYTES),
    "a full queue of the tenant": Refusal(
        429, "tenant carol has too much queued already: try again later", tenant="carol", waiting=0
    ),
    "a full queue of all": Refusal(503, "the queue is full (requests): try again later", tenant="bob", waiting=1),
    "a long wait": Refusal(504, "waited longer than 0.05 s for the engine", "hasty", "bob", 0),
}

# What each client raises, by status.
OPENAI = {
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    413: "APIStatusError",
    429: "RateLimitError",
    503: "InternalServerError",
    504: "InternalServerError",
}
ANTHROPIC = OPENAI | {413: "ContentTooLargeError", 503: "ServiceUnavailableError", 504: "GatewayTimeoutError"}
HUB_CHAT = dict.fromkeys(OPENAI, "HfHubHTTPError")
# TGI's clients tell errors by TGI's words, which are few, and not by the status.
TGI = dict.fromkeys((429, 503, 504), "OverloadedError") | {401: "UnknownError", 413: "ValidationError"}
HUB_GENERATION = TGI | {403: "UnknownError"}
# So it calls every 403.
TEXT_GENERATION = TGI | {403: "ShardNotReadyError"}


def raised(case: Case) -> dict[int, str]:
    if case.client == "huggingface_hub":
        return HUB_CHAT if "chat" in case.call.name else HUB_GENERATION
    return {"openai": OPENAI, "anthropic": ANTHROPIC, "text-generation": TEXT_GENERATION}[case.client]


@cases(told_apart, async_seldom=True)
def test_a_refusal_is_the_clients_exception_for_its_status_and_says_why(doors: OpenDoors, case: Case) -> None:
    for name, refusal in REFUSALS.items():
        door = doors(case.kind)[refusal.door]
        in_the_way = (
            nullcontext() if refusal.waiting is None else door.occupied(refusal.tenant, waiting=refusal.waiting)
        )
        with in_the_way:
            failed = attempt(case.call.once, door.url + refusal.path, key_of(refusal.tenant), refusal.prompt)
        assert isinstance(failed, Failed), (name, failed)
        assert refusal.words in failed.message, name
        # text-generation's exceptions have no status.
        status = None if case.client == "text-generation" else refusal.status
        assert (failed.kind, failed.status, failed.said) == (raised(case)[refusal.status], status, ""), name


# A stream that has begun can't be given a status any more.
IN_A_STREAM = {
    "openai": ("APIError", None),
    "anthropic": ("APIStatusError", 200),
    "huggingface_hub": ("OverloadedError", None),
    "text-generation": ("OverloadedError", None),
}


@cases(lambda case: told_apart(case) and case.call.streams, async_seldom=True)
def test_a_refusal_after_the_early_200_is_an_exception_that_says_why(doors: OpenDoors, case: Case) -> None:
    door = doors(case.kind)["early and hasty"]
    with door.occupied("bob"):
        failed = attempt(case.call.once, door.url, key_of("bob"), "Say hello")
    assert isinstance(failed, Failed), failed
    assert "waited longer than 0.25 s for the engine" in failed.message
    assert (failed.kind, failed.status, failed.said) == (*IN_A_STREAM[case.client], "")
    assert [(line["status"], line["outcome"]) for line in door.log.of("bob")][-1] == (200, "queue_timeout")
