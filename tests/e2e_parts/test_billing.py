"""What a usage log may lack, and what else is a fault."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from suite.billing import Kill, check_bills, truth_file

NOW = time.monotonic()
EARLIER = NOW - 60


def line(folder: Path, name: str, *, pod: str = "a", at: float = NOW, output: int = 5, more: str = "\n") -> None:
    moment = datetime.fromtimestamp(time.time() - time.monotonic() + at, UTC)
    written = {
        "time": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "request_id": name,
        "tenant": name.partition(".")[0],
        "outcome": "completed",
        "input_tokens": 3,
        "cached_input_tokens": 1,
        "output_tokens": output,
    }
    with (folder / f"usage-{pod}-20260304T050607.000000Z.jsonl").open("a") as file:
        file.write(json.dumps(written) + more)


def truth(folder: Path, name: str, *, pod: str = "a", at: float = NOW, made: int = 5, outcome: str = "done") -> None:
    event = {"event": "ended", "request_id": name, "outcome": outcome, "prompt_tokens": 4, "made_tokens": made}
    with (folder / truth_file(pod)).open("a") as file:
        file.write(json.dumps(event | {"at": at}) + "\n")


def test_what_was_billed_is_told(tmp_path: Path) -> None:
    for name in ("alice.1.0", "alice.2.0", "bob.1.0"):
        line(tmp_path, name)
        truth(tmp_path, name)
    billed, lost = check_bills(tmp_path, [])
    assert billed.of("alice") == {"input": 8, "output": 10}
    assert billed.of("bob") == {"input": 4, "output": 5}
    assert lost.tokens == {}


@pytest.mark.parametrize(
    ("kill", "is_explained"),
    [
        (Kill("a", "fairqueue-proxy", NOW + 1, NOW + 1.1), True),
        (Kill("a", None, EARLIER, EARLIER), True),
        (Kill("a", "fairqueue-proxy", NOW + 30, NOW + 30.1), False),
        (Kill("a", "engine", NOW, NOW), False),
        (Kill("b", "fairqueue-proxy", NOW, NOW), False),
        (None, False),
    ],
    ids=["proxy", "pod", "much later", "engine", "another pod", "none"],
)
def test_a_line_may_be_missing_only_when_its_proxy_was_killed(
    tmp_path: Path, kill: Kill | None, is_explained: bool
) -> None:
    truth(tmp_path, "alice.1.0")
    line(tmp_path, "alice.1.0", more="")
    kills = [kill] if kill else []
    if is_explained:
        assert check_bills(tmp_path, kills)[1].of("alice") == {"input": 4, "output": 5}
    else:
        with pytest.raises(AssertionError, match=r"alice\.1\.0"):
            check_bills(tmp_path, kills)


def test_of_a_pod_that_was_killed_only_the_last_second_may_be_missing(tmp_path: Path) -> None:
    truth(tmp_path, "alice.1.0", at=EARLIER)
    truth(tmp_path, "alice.2.0")
    line(tmp_path, "alice.2.0")
    with pytest.raises(AssertionError, match=r"alice\.1\.0"):
        check_bills(tmp_path, [Kill("a", None, EARLIER, EARLIER)])


@pytest.mark.parametrize("made", [4, 6])
def test_a_line_that_differs_from_the_truth_is_a_fault(tmp_path: Path, made: int) -> None:
    truth(tmp_path, "alice.1.0", made=made)
    line(tmp_path, "alice.1.0")
    with pytest.raises(AssertionError, match=r"alice\.1\.0"):
        check_bills(tmp_path, [])


def test_a_request_that_no_engine_knows_of_is_one_whose_engine_was_killed(tmp_path: Path) -> None:
    line(tmp_path, "alice.1.0")
    check_bills(tmp_path, [Kill("a", "engine", NOW, NOW)])
    with pytest.raises(AssertionError, match=r"alice\.1\.0"):
        check_bills(tmp_path, [Kill("a", "fairqueue-proxy", NOW, NOW)])


def test_a_line_of_an_engine_that_was_killed_in_the_middle_of_it_is_none(tmp_path: Path) -> None:
    truth(tmp_path, "alice.1.0")
    with (tmp_path / truth_file("a")).open("a") as file:
        file.write('{"event": "ended", "request_\n')
    truth(tmp_path, "alice.2.0")
    for name in ("alice.1.0", "alice.2.0"):
        line(tmp_path, name)
    assert check_bills(tmp_path, [])[0].of("alice") == {"input": 8, "output": 10}
