"""What may befall a cluster at any time, at random: parts that are killed, people who change policies and keys.

All choices come from one generator, so that a seed gives the same sequence again (what each finds depends on the
cluster). An act that the cluster cannot take just then is tried until it can.
"""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from one_node.components import COMPONENTS
from suite.billing import Kill
from suite.injectors import INJECTOR
from suite.kubectl import Json, Kubectl, until
from suite.node_parts import end, is_our_own_node, kill_container, start
from suite.objects import ENGINE, KEYS_SECRET, secret
from suite.operators import OPERATOR
from suite.patient import Patience
from suite.place import Place
from suite.pods import PROXY, ready_pods, restarts
from suite.policies import API_KEYS, revision_of, reweighed, until_says

SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 8.0
LONGEST_OUTAGE_SECONDS = 10.0
# Until all that was killed is there again: how long an act is tried.
PATIENCE_SECONDS = 120.0


@dataclass(slots=True)
class Keys:
    """Two keys for each tenant: clients use one, and only the other is ever changed."""

    content: dict[str, str]
    used: dict[str, str]

    @staticmethod
    def of(tenants: list[str]) -> "Keys":
        entries = {f"{tenant}-{it}": f"{tenant}-{it}-0" for tenant in tenants for it in ("one", "two")}
        return Keys(entries, {tenant: f"{tenant}-one" for tenant in tenants})

    def secret(self) -> Json:
        """As it is applied."""
        return secret(KEYS_SECRET, self.content, API_KEYS)

    def refs(self) -> dict[str, list[tuple[str, str]]]:
        """By tenant, Secret and entry of each of its keys."""
        return {tenant: [(KEYS_SECRET, f"{tenant}-{it}") for it in ("one", "two")] for tenant in self.used}

    def in_use(self) -> dict[str, str]:
        """What clients send."""
        return {tenant: self.content[entry] for tenant, entry in self.used.items()}


@dataclass(slots=True)
class Chaos:
    """One place that chaos befalls. `spared` is the pod that is not killed."""

    system: Kubectl
    place: Place
    chance: random.Random
    policy: Json
    keys: Keys
    clients: Patience
    spared: str
    kills: list[Kill] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    _began: float = field(default_factory=time.monotonic)

    def revision(self) -> str:
        """Of the document that must be in force in the end."""
        return revision_of(self.policy, {KEYS_SECRET: self.keys.content})

    def go_on(self, seconds: float) -> None:
        """One thing after the other for so long."""
        acts: list[Callable[[], str]] = [
            self._delete_pod,
            self._kill_pod,
            self._kill_operator,
            self._kill_injector,
            self._edit_policy,
            self._rotate_key,
        ]
        if is_our_own_node():
            acts += [self._kill_part, self._kill_part, self._kill_container, self._kill_container]
        deck: list[Callable[[], str]] = []
        while time.monotonic() - self._began < seconds:
            # Each comes up as often as the others.
            deck = deck or self.chance.sample(acts, len(acts))
            act = deck.pop()
            said = act()
            self.done[act.__name__.strip("_")] += 1
            print(f"{time.monotonic() - self._began:6.1f} s  {said}", flush=True)
            time.sleep(self.chance.uniform(SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS))

    def _delete_pod(self) -> str:
        name = self._a_pod()
        self._do("delete", "pod", name, "--wait=false", "--ignore-not-found")
        return f"pod {name} deleted"

    def _kill_pod(self) -> str:
        name = self._a_pod()
        began = time.monotonic()
        self._do("delete", "pod", name, "--grace-period=0", "--force", "--wait=false", "--ignore-not-found")
        self.kills.append(Kill(name, None, began, time.monotonic()))
        return f"pod {name} killed"

    def _kill_container(self) -> str:
        container = self.chance.choice((ENGINE, PROXY))
        name = self._a_pod()
        pod = self.place.kubectl.get("pod", name)
        if restarts(pod, container):
            # The second time, kubelets wait before they start it again, ever longer.
            return f"{self._kill_pod()}, not {container} of {name}, as that was killed before"
        began = time.monotonic()
        kill_container(pod, container)
        self.kills.append(Kill(name, container, began, time.monotonic()))
        return f"{container} of pod {name} killed"

    def _kill_operator(self) -> str:
        return f"operator {self._kill_one_of(OPERATOR)} killed"

    def _kill_injector(self) -> str:
        return f"injector {self._kill_one_of(INJECTOR)} killed"

    def _edit_policy(self) -> str:
        weights = {tenant: self.chance.randint(1, 9) for tenant in sorted(self.keys.used)}
        self.policy = reweighed(self.policy, weights)
        self._until_done(lambda: self.place.kubectl.apply(self.policy), "the policy is applied")
        return f"weights {weights}"

    def _rotate_key(self) -> str:
        """As it is done under load: the key that nobody uses is changed, and used once all pods know it."""
        tenant = self.chance.choice(sorted(self.keys.used))
        entry = next(name for _, name in self.keys.refs()[tenant] if name != self.keys.used[tenant])
        self.keys.content[entry] = f"{entry}-{self.chance.getrandbits(64):x}"
        self._until_done(lambda: self.place.kubectl.apply(self.keys.secret()), "the keys are applied")
        began = time.monotonic()
        found = until(self._in_force, "the new key in force", seconds=PATIENCE_SECONDS)
        self.keys.used[tenant] = entry
        self._until_done(lambda: self.clients.use_keys(self.keys.in_use()), "clients use it")
        current = found["status"]["pods"]["current"]
        return f"a new key of {tenant} in force on {current} pods after {time.monotonic() - began:.1f} s"

    def _kill_part(self) -> str:
        part = self.chance.choice(COMPONENTS)
        seconds = self.chance.uniform(0.0, LONGEST_OUTAGE_SECONDS)
        end(part)
        time.sleep(seconds)
        start(part)
        return f"{part} killed, and started {seconds:.1f} s later"

    def _in_force(self) -> Json | None:
        found = until_says(self.place.kubectl, "Ready", "True", "Ready", seconds=PATIENCE_SECONDS)
        return found if found["status"]["configRevision"] == self.revision() else None

    def _a_pod(self) -> str:
        """One that may be killed, once there is one."""
        choice = self.chance.random()

        def found() -> str | None:
            names = sorted({it["metadata"]["name"] for it in ready_pods(self.place.kubectl)} - {self.spared})
            return names[int(choice * len(names))] if names else None

        return until(found, "a pod that may be killed", seconds=PATIENCE_SECONDS)

    def _kill_one_of(self, deployment: str) -> str:
        choice = self.chance.random()

        def killed() -> str | None:
            pods = self.system.all("pods", f"app.kubernetes.io/name={deployment}")
            names: list[str] = sorted(
                it["metadata"]["name"] for it in pods if "deletionTimestamp" not in it["metadata"]
            )
            if not names:
                return None
            name = names[int(choice * len(names))]
            self.system.run("delete", "pod", name, "--grace-period=0", "--force", "--wait=false")
            return name

        return until(killed, f"a pod of {deployment} killed", seconds=PATIENCE_SECONDS)

    def _do(self, *command: str) -> None:
        self._until_done(lambda: self.place.kubectl.run(*command), " ".join(command))

    @staticmethod
    def _until_done(act: Callable[[], object], what: str) -> None:
        def tried() -> bool:
            act()
            return True

        until(tried, what, seconds=PATIENCE_SECONDS, every=1)
