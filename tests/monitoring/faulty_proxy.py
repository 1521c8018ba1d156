"""`fairqueue` with a defect that no test lets through: while the file `defect.json` is beside the policy, the scheduler
passes over one tenant's turn. Run as `python faulty_proxy.py serve --policy ...`.

Nothing else is altered: whoever goes is started, charged and counted as ever, and `Scheduler.check` holds.
"""

import contextlib
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from fairqueue_cli.main import main
from fairqueue_proxy.scheduler import Node, Request, Scheduler

FILE = "defect.json"


@dataclass(frozen=True, slots=True)
class Defect:
    """`victim` goes only after so many others, or when it is alone. Where its debt is `forgotten` it starts each time
    at the level of the others, as if it had been served."""

    victim: str
    after: int
    forgotten: bool = False

    def write(self, folder: Path) -> None:
        """From now on it is so, for the proxy whose policy is in this folder."""
        beside = folder / ".defect"
        beside.write_text(json.dumps(asdict(self)))
        beside.replace(folder / FILE)


class Overlooking:
    """What stands in for two methods of the scheduler."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._defect: Defect | None = None
        self._others_since = 0
        self._head, self._start = Scheduler.head, Scheduler._start

    def install(self) -> None:
        """For all schedulers of this process."""

        def head(scheduler: Scheduler) -> Request | None:
            return self.head(scheduler)

        def start(scheduler: Scheduler, request: Request) -> None:
            self.start(scheduler, request)

        Scheduler.head = head  # type: ignore[assignment, method-assign]
        Scheduler._start = start  # type: ignore[assignment, method-assign]

    def head(self, scheduler: Scheduler) -> Request | None:
        self._look(scheduler)
        if self._defect is None:
            return self._head(scheduler)
        scheduler._pay_off()
        node = scheduler.root
        while node.children:
            order = sorted(_active(node.children.values()), key=Node.turn)
            if not order:
                return None
            node = next((child for child in order if not self._is_overlooked(child)), order[0])
        return node.head

    def start(self, scheduler: Scheduler, request: Request) -> None:
        leaf = request.leaf
        if self._defect is not None and leaf.name == self._defect.victim:
            self._others_since = 0
            if self._defect.forgotten:
                _forget_debt(leaf)
        else:
            self._others_since += 1
        self._start(scheduler, request)

    def _is_overlooked(self, node: Node) -> bool:
        defect = self._defect
        return defect is not None and node.name == defect.victim and self._others_since < defect.after

    def _look(self, scheduler: Scheduler) -> None:
        before, self._defect = self._defect, self._read()
        if before is not None and self._defect is None:
            # A defect ends with a restart, at which all begin anew. To be paid back, the debt would starve the others.
            for node in scheduler.nodes():
                if node.name == before.victim:
                    _forget_debt(node)

    def _read(self) -> Defect | None:
        with contextlib.suppress(FileNotFoundError):
            return Defect(**json.loads(self._file.read_bytes()))
        return None


def _active(nodes: Iterable[Node]) -> list[Node]:
    return [node for node in nodes if node.active]


def _forget_debt(node: Node) -> None:
    assert node.parent is not None
    others = [child.key for child in _active(node.parent.children.values()) if child is not node]
    node.lift_to(max([node.settled, *others]))


if __name__ == "__main__":
    Overlooking(Path(sys.argv[sys.argv.index("--policy") + 1]).with_name(FILE)).install()
    sys.exit(main())
