"""Keys from labelled Secrets: which are found, what is said of those that are not, and that no content is repeated."""

from typing import Any

import pytest

from fairqueue_api import SecretError, digest
from fairqueue_operator.planning import secrets_view
from fairqueue_operator.planning.secrets_view import (
    API_KEYS_LABEL,
    ENGINE_KEY_LABEL,
    LabelledKeys,
    LabelledSecret,
    Open,
)

KEY = b"sk-0123456789-very-secret"
VIEW = Open(
    {
        "keys": LabelledSecret(True, False, {"chat": KEY + b"\n", "broken": KEY + b"\n\n", "empty": b""}),
        "engine": LabelledSecret(False, True, {"token": b"engine-key"}),
        "both": LabelledSecret(True, True, {"token": b"shared"}),
    }
)
WANTED = {"keys": ["chat"], "nobody": ["chat", "batch", "chat"]}


def read(name: str, key: str, label: str = API_KEYS_LABEL) -> bytes:
    return LabelledKeys("team", VIEW, label, WANTED).read(name, key)


def refusal(name: str, key: str, label: str = API_KEYS_LABEL) -> str:
    with pytest.raises(SecretError) as caught:
        read(name, key, label)
    assert KEY.decode() not in repr(caught.value)
    (problem,) = caught.value.problems
    return str(problem)


def test_a_key_is_read_as_from_a_file() -> None:
    assert read("keys", "chat") == KEY
    assert read("both", "token") == read("both", "token", ENGINE_KEY_LABEL) == b"shared"


def test_a_secret_that_is_not_there_is_asked_for_with_all_its_entries() -> None:
    assert refusal("nobody", "chat") == (
        "Secret nobody: is not there or has not the label fairqueue.dev/api-keys: "
        "kubectl -n team create secret generic nobody --from-file=batch=FILE --from-file=chat=FILE; "
        "kubectl -n team label secret nobody fairqueue.dev/api-keys=true"
    )


@pytest.mark.parametrize(("label", "other"), [(API_KEYS_LABEL, "engine"), (ENGINE_KEY_LABEL, "keys")])
def test_a_secret_with_the_other_label_is_as_one_that_is_not_there(label: str, other: str) -> None:
    """Whoever writes policies learns nothing of Secrets that are not for them."""
    assert refusal(other, "chat", label) == refusal("absent", "chat", label).replace("absent", other)


def test_an_entry_that_is_missing_is_named_with_the_command_that_adds_it() -> None:
    assert refusal("keys", "batch") == (
        "Secret keys: has no entry batch: "
        """kubectl -n team patch secret keys -p '{"stringData":{"batch":"KEY"}}'"""
    )


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("empty", "the key is empty: write the key into it"),
        (
            "broken",
            "the key has white space, control or non-ASCII characters in it: write one key and nothing else into it",
        ),
    ],
)
def test_an_entry_that_is_no_key_is_refused_as_a_file_is(entry: str, why: str) -> None:
    assert refusal("keys", entry) == f"Secret keys, entry {entry}: {why}"


@pytest.mark.parametrize(("name", "key"), [("x; rm -rf /", "k"), ("keys", "$(id)"), ("keys", "a b"), ("", "k")])
def test_a_name_that_a_shell_could_misread_is_in_no_command(name: str, key: str) -> None:
    assert refusal(name, key) == "the Secret or the entry has a name that none can have: correct it"


def test_client_digests_are_those_of_every_usable_key_of_clients() -> None:
    assert VIEW.client_digests == {digest(KEY), digest(b"shared")}
    assert Open({}).client_digests == frozenset()


def test_keys_are_hashed_once_when_their_secret_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many policies are judged by however many views: a namespace may have ten thousand Secrets."""
    secrets = {f"s{number}": LabelledSecret(True, False, {"k": b"key-%d" % number}) for number in range(100)}
    monkeypatch.setattr(secrets_view, "digest", lambda _: pytest.fail("hashed again"))
    first, second = Open(secrets), Open(dict(secrets))
    assert len(first.client_digests) == 100
    assert first == second
    assert first.client_digests is first.client_digests


def test_of_ten_thousand_secrets_a_policy_asks_for_its_own_only() -> None:
    class Secrets(dict[str, LabelledSecret]):
        def __iter__(self) -> Any:
            pytest.fail("all were looked through")

        items = values = keys = __iter__

    secrets = Secrets(keys=LabelledSecret(True, False, {"chat": KEY}))
    assert LabelledKeys("team", Open(secrets), API_KEYS_LABEL, WANTED).read("keys", "chat") == KEY


def test_no_content_is_in_a_repr() -> None:
    assert "very-secret" not in repr(VIEW)
    assert "engine-key" not in repr(VIEW)
