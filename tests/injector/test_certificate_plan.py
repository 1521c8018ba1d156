"""What is decided from stored Secrets, the `caBundle` and the time, without any of them being read or written."""

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_operator import certificate_plan as plan
from fairqueue_operator.certificates import Pair, make_authority, make_leaf, pem, read_bundle
from injector.conftest import START

NAMES = ["fairqueue-injector.fairqueue-system.svc"]
AUTHORITY = make_authority(START)
LEAF = dict(plan.new_leaf(AUTHORITY, NAMES, START))
OTHER = make_authority(START - timedelta(days=1))


def data(pair: Pair) -> dict[str, bytes]:
    return {"tls.crt": pair.certificate_pem, "tls.key": pair.key_pem}


@pytest.mark.parametrize(
    ("stored", "days", "problem", "is_usable"),
    [
        pytest.param(data(AUTHORITY), 0, "", True, id="new"),
        pytest.param(data(AUTHORITY), 2434, "", True, id="not-due"),
        pytest.param(data(AUTHORITY), 2436, "due for renewal", True, id="due"),
        pytest.param(data(AUTHORITY), 3654, "expired", False, id="expired"),
        pytest.param(data(AUTHORITY), -1, "not valid yet", False, id="early"),
        pytest.param(None, 0, "absent", False, id="absent"),
        pytest.param({}, 0, "corrupted: tls.crt", False, id="empty"),
        pytest.param({**data(AUTHORITY), "tls.key": b"?"}, 0, "corrupted: tls.key", False, id="no-key"),
        pytest.param(LEAF, 0, "not a certificate authority", False, id="a-leaf"),
    ],
)
def test_an_authority_is_kept_unless_something_is_wrong(
    stored: dict[str, bytes] | None, days: float, problem: str, is_usable: bool
) -> None:
    judged = plan.judge_authority(stored, START + timedelta(days=days))
    assert judged.problem.startswith(problem)
    assert bool(judged.problem) is bool(problem)
    assert (judged.usable is not None) is is_usable


@pytest.mark.parametrize(
    ("stored", "days", "problem", "is_usable", "can_wait"),
    [
        pytest.param(LEAF, 0, "", True, False, id="new"),
        pytest.param(LEAF, 59.9, "", True, False, id="not-due"),
        pytest.param(LEAF, 60.1, "due for renewal", True, False, id="due"),
        pytest.param(LEAF, 91, "expired", False, False, id="expired"),
        pytest.param(LEAF, -1, "not valid yet", False, False, id="early"),
        pytest.param(None, 0, "absent", False, False, id="absent"),
        pytest.param({"tls.crt": b""}, 0, "corrupted", False, False, id="corrupted"),
        pytest.param(
            plan.new_leaf(AUTHORITY, ["a.b.svc"], START),
            0,
            f"not for the name {NAMES[0]}",
            False,
            False,
            id="other-name",
        ),
        pytest.param(plan.new_leaf(OTHER, NAMES, START), 0, "of another authority", True, True, id="other-authority"),
        pytest.param(
            plan.new_leaf(OTHER, NAMES, START), 91, "expired, and of another authority", False, False, id="both"
        ),
        pytest.param(plan.new_leaf(AUTHORITY, ["x.svc", *NAMES], START), 0, "", True, False, id="more-names"),
    ],
)
def test_a_leaf_is_kept_unless_something_is_wrong(
    stored: dict[str, bytes] | None, days: float, problem: str, is_usable: bool, can_wait: bool
) -> None:
    judged = plan.judge_leaf(stored, AUTHORITY.certificate, NAMES, START + timedelta(days=days))
    assert judged.problem.startswith(problem)
    assert bool(judged.problem) is bool(problem)
    assert (judged.usable is not None, judged.can_wait) == (is_usable, can_wait)


def test_a_leaf_with_another_authoritys_name_but_not_its_signature_is_of_another_authority() -> None:
    impostor = Pair(AUTHORITY.certificate, ec.generate_private_key(ec.SECP256R1()))
    forged = make_leaf(impostor, NAMES, START)
    assert plan.judge_leaf(data(forged), AUTHORITY.certificate, NAMES, START).can_wait


def bundled(present: bytes, stored: dict[str, bytes] | None, minutes: float = 0) -> list[Pair | None]:
    """Which authorities the planned bundle has."""
    now = START + timedelta(minutes=minutes)
    leaf = plan.judge_leaf(stored, AUTHORITY.certificate, NAMES, now)
    known = {pair.certificate: pair for pair in (AUTHORITY, OTHER)}
    return [known.get(found) for found in read_bundle(plan.plan_bundle(present, AUTHORITY.certificate, leaf, now))]


OLD_LEAF = dict(plan.new_leaf(OTHER, NAMES, START))
BOTH = [AUTHORITY, OTHER]


def test_an_empty_or_spoilt_bundle_gets_the_authority() -> None:
    for present in (b"", b"garbage", pem(AUTHORITY.certificate)):
        assert bundled(present, LEAF) == [AUTHORITY]


def test_the_old_authority_stays_trusted_while_its_leaf_is_served_and_ten_minutes_longer() -> None:
    present = pem(OTHER.certificate)
    assert bundled(present, OLD_LEAF) == BOTH
    assert bundled(present, LEAF, minutes=9.9) == BOTH
    assert bundled(present, LEAF, minutes=10.1) == [AUTHORITY]


def test_a_bundle_that_somebody_emptied_meanwhile_gets_the_old_authority_back_from_the_leafs_own_secret() -> None:
    assert bundled(b"", OLD_LEAF) == BOTH
    assert bundled(b"", {**OLD_LEAF, "ca.crt": b""}) == [AUTHORITY]
    # It says who signed it, but that is not true.
    assert bundled(b"", {**OLD_LEAF, "ca.crt": make_authority(START).certificate_pem}) == [AUTHORITY]


def test_while_the_leaf_is_gone_the_old_authority_stays_for_those_who_serve_one_from_memory() -> None:
    assert bundled(pem(OTHER.certificate), None) == BOTH


def test_what_is_no_authority_or_has_ended_leaves_the_bundle_at_once() -> None:
    ended = make_authority(START - timedelta(days=4000))
    leaf = make_leaf(AUTHORITY, NAMES, START)
    assert bundled(pem(leaf.certificate, ended.certificate, OTHER.certificate), OLD_LEAF) == BOTH


def test_a_bundle_does_not_grow_without_end() -> None:
    present = pem(*(make_authority(START).certificate for _ in range(6)), OTHER.certificate)
    found = bundled(present, OLD_LEAF)
    assert found[:2] == BOTH
    assert len(found) == 4


@given(
    st.lists(st.sampled_from([AUTHORITY, OTHER, make_authority(START)]), max_size=5), st.floats(0, 20), st.booleans()
)
def test_a_bundle_that_is_as_planned_stays_so_and_always_trusts_the_authority(
    present: list[Pair], minutes: float, renewed: bool
) -> None:
    now = START + timedelta(minutes=minutes)
    leaf = plan.judge_leaf(LEAF if renewed else OLD_LEAF, AUTHORITY.certificate, NAMES, now)
    once = plan.plan_bundle(pem(*(pair.certificate for pair in present)), AUTHORITY.certificate, leaf, now)
    assert plan.plan_bundle(once, AUTHORITY.certificate, leaf, now) == once
    assert plan.trusts(once, AUTHORITY.certificate)
    assert renewed or plan.trusts(once, OTHER.certificate)


def test_the_planned_bundle_does_not_hang_on_the_order_of_the_present_one() -> None:
    others = [make_authority(START).certificate for _ in range(2)]
    leaf = plan.judge_leaf(OLD_LEAF, AUTHORITY.certificate, NAMES, START)
    planned = {plan.plan_bundle(pem(*order), AUTHORITY.certificate, leaf, START) for order in (others, others[::-1])}
    assert len(planned) == 1
