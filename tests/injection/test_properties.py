"""Random pods: nothing is raised, the patch applies, and what must hold holds; pods with junk in them are denied."""

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fairqueue_operator.injection import Outcome, Reason, decide
from injection.golden_files import SETTINGS, patched
from injection.invariants import check_engine, check_injected
from injection.random_pods import KINDS, pods, policies

Json = dict[str, Any]

_junk = st.sampled_from([None, True, 0, -1, 1.5, "", "x", "$(", [], [None], {}, {"name": None}, [{"name": 3}]])


@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_in_any_pod_that_gets_the_proxy_nothing_goes_round_it_and_nothing_else_changes(
    data: st.DataObject, kind: str
) -> None:
    pod, policy = data.draw(pods(kind)), data.draw(policies(kind))
    decision = decide(pod, [policy], SETTINGS)
    if decision.reason is not Reason.INJECTED:
        assert decision.patch == ()
        assert decision.reason.outcome is Outcome.DENIED
        assert decision.detail
        return
    check_injected(pod, decision, policy, SETTINGS)
    if policy.spec.injection.mode == "PortTakeover":
        check_engine(patched(pod, decision), kind)


def test_the_random_pods_are_not_all_denied() -> None:
    seen: Counter[Reason] = Counter()

    @given(data=st.data(), kind=st.sampled_from(KINDS))
    def count(data: st.DataObject, kind: str) -> None:
        seen[decide(data.draw(pods(kind)), [data.draw(policies(kind))], SETTINGS).reason] += 1

    count()
    assert seen[Reason.INJECTED] * 5 >= sum(seen.values())


def _places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in items for place in _places(item, (*path, key)))]


def _replaced(value: Any, path: tuple[str | int, ...], junk: Any) -> Any:
    if not path:
        return junk
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _replaced(value[path[0]], path[1:], junk)
    return copy


@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_junk_anywhere_in_a_pod_raises_nothing(data: st.DataObject, kind: str) -> None:
    pod, policy = data.draw(pods(kind)), data.draw(policies(kind))
    for _ in range(data.draw(st.integers(1, 2))):
        pod = _replaced(pod, data.draw(st.sampled_from(_places(pod))), data.draw(_junk))
    decision = decide(pod, [policy], SETTINGS)
    if decision.patch:
        assert patched(pod, decision)["spec"]["initContainers"][0]["name"] == "fairqueue-proxy"
