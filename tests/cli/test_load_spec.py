"""Tenant specs, targets and stop conditions from the command line."""

import re
from pathlib import Path

import pytest

from fairqueue_cli.load_spec import LoadPlan, SpecError, Stop, TenantSpec, parse_target, parse_tenants, parse_until


def test_a_spec_with_every_field_is_read(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sesame\n")
    text = f"name=chat,workers=4,max_tokens=16-48,prompt_words=40,think_seconds=0.5,weight=2,key_file={key}"
    assert parse_tenants([text]) == (
        TenantSpec("chat", 4, (16, 48), prompt_words=40, think_seconds=0.5, weight=2.0, key="sesame"),
    )


def test_only_the_name_is_needed() -> None:
    assert parse_tenants(["name=chat", "name=batch,max_tokens=9"]) == (
        TenantSpec("chat"),
        TenantSpec("batch", max_tokens=(9, 9)),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("", "'' is not one of name=", id="empty"),
        pytest.param("chat", "'chat' is not one of name=, workers=", id="no field"),
        pytest.param("workers=3", "name is missing", id="no name"),
        pytest.param("name=", "name is missing", id="empty name"),
        pytest.param("name=a,speed=3", "'speed=3' is not one of name=", id="unknown field"),
        pytest.param("name=a,key=sesame", "is not one of name=", id="a key in clear"),
        pytest.param("name=a,workers=2,workers=3", "workers is given twice", id="twice"),
        pytest.param("name=a,workers=0", "workers must be a whole number, 1 or more, not '0'", id="no workers"),
        pytest.param("name=a,workers=x", "workers must be a whole number, 1 or more, not 'x'", id="not a number"),
        pytest.param(
            "name=a,max_tokens=9-3", "max_tokens must be a whole number, 1 or more, or two", id="falling range"
        ),
        pytest.param("name=a,max_tokens=3-", "max_tokens must be a whole number", id="open range"),
        pytest.param("name=a,prompt_words=-1", "prompt_words must be a whole number", id="negative"),
        pytest.param("name=a,think_seconds=nan", "think_seconds must be a number of seconds, 0 or more", id="nan"),
        pytest.param("name=a,weight=0", "weight must be a number above 0", id="no weight"),
        pytest.param("name=a,key_file=/no/such", "key_file /no/such cannot be read: No such file", id="no key file"),
    ],
)
def test_a_bad_spec_is_refused_in_one_line_that_names_the_field(text: str, said: str) -> None:
    with pytest.raises(SpecError, match=re.escape(said)) as refusal:
        parse_tenants([text])
    assert str(refusal.value).startswith(f"--tenant {text}")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b" \n", b"two words", b"a\nb", "schlüssel".encode()])
def test_a_key_file_without_exactly_one_key_is_refused_and_not_quoted(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(SpecError, match="must hold one key in ASCII") as refusal:
        parse_tenants([f"name=a,key_file={file}"])
    assert "words" not in str(refusal.value)


def test_a_key_is_in_no_repr(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sesame")
    assert "sesame" not in repr(parse_tenants([f"name=a,key_file={tmp_path / 'key'}"]))


def test_one_name_twice_is_refused() -> None:
    with pytest.raises(SpecError, match="--tenant name=a: given twice"):
        parse_tenants(["name=a", "name=a,workers=2"])


def test_until_names_a_tenant_and_a_number_of_replies() -> None:
    assert parse_until("a=20", parse_tenants(["name=a"])) == Stop(tenant="a", replies=20)


@pytest.mark.parametrize(("text", "said"), [("b=3", "no --tenant has the name 'b'"), ("a", "like"), ("a=0", "like")])
def test_a_bad_until_is_refused(text: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        parse_until(text, parse_tenants(["name=a"]))


@pytest.mark.parametrize("text", ["localhost:80", "ftp://host", "http://", "http://host:99999", "http://[::1"])
def test_a_target_that_is_no_http_address_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="not an address; write it like"):
        parse_target(text)


@pytest.mark.parametrize(
    ("target", "api", "url"),
    [
        ("http://h:1", "openai", "http://h:1/v1/chat/completions"),
        ("http://h:1/v1/", "openai", "http://h:1/v1/chat/completions"),
        ("http://h:1/", "tgi", "http://h:1/generate_stream"),
    ],
)
def test_the_route_follows_the_api(target: str, api: str, url: str) -> None:
    assert LoadPlan(parse_target(target), api, ()).url == url  # type: ignore[arg-type]
