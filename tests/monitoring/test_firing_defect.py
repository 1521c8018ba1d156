"""The defect that `test_firing` puts into a scheduler: one tenant is passed over, and all else is as it should be."""

from collections import Counter
from pathlib import Path

import pytest

from fairqueue_proxy.scheduler import Request, Scheduler
from monitoring.faulty_proxy import FILE, Defect, Overlooking

NEVER = 1_000_000


class Shop:
    """Two tenants that always have requests queued, and four places; every request is the same."""

    def __init__(self) -> None:
        self.scheduler = Scheduler(clock=lambda: 0.0)
        self.leaves = [self.scheduler.add_node(name) for name in ("victim", "favoured")]
        self.running: list[Request] = []
        self._arrive()

    def serve(self, count: int) -> Counter[str]:
        """So many start, whose they are."""
        started: Counter[str] = Counter()
        for _ in range(count):
            self._arrive()
            if len(self.running) == 4:
                self.scheduler.finish(self.running.pop(0), output_tokens=8)
            request = self.scheduler.dispatch(lambda _: True)
            assert request is not None
            self.running.append(request)
            started[request.leaf.name] += 1
            self.scheduler.check()
        return started

    def _arrive(self) -> None:
        for leaf in self.leaves:
            self.scheduler.enqueue(Request(leaf, 5, 8, prompt_exact=True))

    @property
    def is_fair(self) -> bool:
        gap = self.scheduler.gap(self.scheduler.root)
        return gap.gap <= gap.bound


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shop:
    for method in ("head", "_start"):
        monkeypatch.setattr(Scheduler, method, getattr(Scheduler, method))
    Overlooking(tmp_path / FILE).install()
    return Shop()


def test_without_a_defect_both_have_as_much(shop: Shop) -> None:
    assert shop.serve(40) == {"victim": 20, "favoured": 20}


def test_a_victim_never_goes_and_its_counter_stays_behind(shop: Shop, tmp_path: Path) -> None:
    Defect("victim", after=NEVER).write(tmp_path)
    assert shop.serve(40) == {"favoured": 40}
    assert not shop.is_fair


def test_a_victim_whose_debt_is_forgotten_goes_now_and_then_and_no_counter_tells(shop: Shop, tmp_path: Path) -> None:
    Defect("victim", after=3, forgotten=True).write(tmp_path)
    assert shop.serve(40) == {"victim": 10, "favoured": 30}
    assert shop.is_fair


def test_when_it_is_mended_all_begin_anew(shop: Shop, tmp_path: Path) -> None:
    Defect("victim", after=NEVER).write(tmp_path)
    shop.serve(40)
    (tmp_path / FILE).unlink()
    assert shop.serve(40) == {"victim": 20, "favoured": 20}
    assert shop.is_fair
