"""A long wait in the queue: streams get 200 and comments, which no client shows to its user or stumbles over."""

from clients.attempts import Said
from clients.calls import attempt
from clients.cases import Case, cases, told_apart
from clients.conftest import COMMENT_SECONDS, OpenDoors
from proxy_stack import key_of

PROMPT = "[[eos=20]][[utf8=1]] Say hello"


def reads_while_it_waits(case: Case) -> bool:
    """Every stream; on the other engines one of each client."""
    elsewhere = case.kind in ("sglang", "openai") and case.call.name == "chat stream"
    return case.call.streams and (told_apart(case) or elsewhere)


@cases(reads_while_it_waits)
def test_a_stream_that_waited_is_the_same_as_one_that_did_not(doors: OpenDoors, case: Case) -> None:
    at = doors(case.kind)
    door = at["early"]
    before = len(door.log.of("bob"))
    with door.occupied("bob") as leave:
        door.leaves_when_waited_for(leave, "bob", early=True)
        said = attempt(case.call, door.url, key_of("bob"), PROMPT)
    assert isinstance(said, Said), said
    assert said == attempt(case.call, at.direct, key_of("bob"), PROMPT)
    door.wait(lambda: len(door.log.of("bob")) > before)
    (line,) = door.log.of("bob")[before:]
    assert (line["status"], line["outcome"]) == (200, "completed")
    # So there were some.
    assert line["queue_seconds"] > 4 * COMMENT_SECONDS


@cases(lambda case: told_apart(case) and not case.call.streams)
def test_a_plain_reply_that_waited_is_the_same_as_one_that_did_not(doors: OpenDoors, case: Case) -> None:
    at = doors(case.kind)
    door = at["early"]
    with door.occupied("bob") as leave:
        door.leaves_when_waited_for(leave, "bob", early=False)
        said = attempt(case.call, door.url, key_of("bob"), PROMPT)
    assert isinstance(said, Said), said
    assert said == attempt(case.call, at.direct, key_of("bob"), PROMPT)
