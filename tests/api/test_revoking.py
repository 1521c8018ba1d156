"""Taking keys out of a document: only keys, all that are gone, and nothing else changes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.policies import EVERYTHING, Keys, policy
from fairqueue_api import DocumentError, check_policy, digest, load_policy, parse_document, render
from fairqueue_api.document import revision_of
from fairqueue_api.revoking import revoke


def document(*keys: str) -> bytes:
    """Of one tenant with these keys, and one with another."""
    refs = [{"name": "keys", "key": key} for key in keys]
    tenants = [
        {"name": "chat", "apiKeySecretRefs": refs},
        {"name": "batch", "apiKeySecretRefs": [{"name": "keys", "key": "batch"}]},
    ]
    return render(check_policy(policy(tenants=tenants), "policy"), Keys()).to_json()


def digests(content: bytes) -> dict[str, list[str]]:
    return {tenant["name"]: tenant["key_digests"] for tenant in json.loads(content)["tenants"]}


def of(*keys: str) -> set[str]:
    return {digest(f"keys/{key}".encode()) for key in keys}


def test_a_key_that_is_gone_is_taken_out() -> None:
    revoked = revoke(document("old", "new"), of("new", "batch"))
    assert digests(revoked) == {"chat": sorted(of("new")), "batch": sorted(of("batch"))}


def test_what_is_left_is_the_document_that_would_be_rendered_without_the_key() -> None:
    assert revoke(document("old", "new"), of("new", "batch")) == document("new")


def test_a_tenant_may_be_left_without_keys() -> None:
    revoked = revoke(document("old"), of("batch"))
    assert digests(revoked)["chat"] == []
    assert parse_document(revoked)


def test_a_document_without_such_keys_stays_byte_by_byte() -> None:
    written = json.dumps(json.loads(document("new")), indent=2).encode()
    assert revoke(written, of("new", "batch", "unused")) is written


def test_the_engines_key_stays() -> None:
    content = render(load_policy(EVERYTHING), Keys()).to_json()
    key = json.loads(content)["engine"]["api_key"]
    assert key is not None
    revoked = json.loads(revoke(content, set()))
    assert revoked["engine"]["api_key"] == key
    assert not any(tenant["key_digests"] for tenant in revoked["tenants"])


def test_fields_of_a_newer_version_stay_and_count_in_the_revision() -> None:
    newer = json.loads(document("old")) | {"fromTheFuture": {"a": [1.0, "é"]}}
    newer["tenants"][0]["also"] = 2**63
    revoked = json.loads(revoke(json.dumps(newer).encode(), set()))
    assert revoked["fromTheFuture"] == {"a": [1.0, "é"]}
    assert revoked["tenants"][0]["also"] == 2**63
    assert revoked["revision"] != json.loads(revoke(document("old"), set()))["revision"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema":2}', b'{"schema":1}'])
def test_what_is_no_document_is_refused(content: bytes) -> None:
    with pytest.raises(DocumentError):
        revoke(content, set())


KEY_NAMES = st.sets(st.integers(0, 20), max_size=4)


@given(st.lists(KEY_NAMES, max_size=5), st.sets(st.integers(0, 20)), st.booleans())
def test_revoking_takes_out_unknown_keys_alone_and_once(held: list[set[int]], kept: set[int], is_newer: bool) -> None:
    """Revoking twice is revoking once; no digest is added; the rest is kept; the revision is the content's own."""
    refs = [[{"name": f"s{index}", "key": str(key)} for key in keys] for index, keys in enumerate(held)]
    tenants = [{"name": f"t{index}", "apiKeySecretRefs": each} for index, each in enumerate(refs)]
    content = render(check_policy(policy(tenants=tenants), "policy"), Keys()).to_json()
    if is_newer:
        content = json.dumps(json.loads(content) | {"fromTheFuture": 1}).encode()
    known = {digest(f"s{index}/{key}".encode()) for index, keys in enumerate(held) for key in keys & kept}
    revoked = revoke(content, known | {digest(b"never seen")})
    assert revoke(revoked, known) == revoked
    before, after = json.loads(content), json.loads(revoked)
    assert all(set(keys) <= known for keys in digests(revoked).values())
    for tenant in before["tenants"]:
        tenant["key_digests"] = [key for key in tenant["key_digests"] if key in known]
    assert (revoked == content) == (before["revision"] == after["revision"]) == all(keys <= kept for keys in held)
    del before["revision"]
    revision = after.pop("revision")
    assert before == after
    assert is_newer or revision == revision_of(parse_document(revoked).document)
