"""What `fairqueue simulate` is asked for, checked whole before anything runs. Every error is one line that says what is
allowed.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fairqueue_api import Document, PolicyError, SecretError
from fairqueue_cli.simulate import DEFAULT_SCHEDULERS
from fairqueue_sim.lab.engines import LabEngine, rules_named
from fairqueue_sim.lab.experiment import PRODUCT, Experiment
from fairqueue_sim.lab.orders import make_order
from fairqueue_sim.lab.policies import read_policy
from fairqueue_sim.lab.trace import read_trace
from fairqueue_sim.lab.workloads import DEFAULT_SEED, Workload, load_workload
from fairqueue_sim.profiles import load_profile

T = TypeVar("T")
_LEAST = {"kv_tokens": 64, "slots": 1, "requests": 1, "seed": 0}
_MOST = 2**32 - 1
_ENDINGS = {"plot": ".png", "report": ".html"}


@dataclass(frozen=True, slots=True)
class Plan:
    """`candidates` are the schedulers by name, and the policies by file with their documents. `warnings` are of what
    may not have been meant. `seed` is the workload's, None of a trace."""

    experiment: Experiment
    candidates: dict[str, Document | None]
    warnings: list[str]
    seed: int | None


def prepare(args: argparse.Namespace) -> Plan:
    """Raises ValueError with what is wrong."""
    for option, least in _LEAST.items():
        value = getattr(args, option)
        if value is not None and not least <= value <= _MOST:
            raise ValueError(f"--{option.replace('_', '-')} {value}: must be a whole number from {least} to {_MOST}")
    for option, ending in _ENDINGS.items():
        _check_output(option, getattr(args, option), ending)
    seed = DEFAULT_SEED if args.seed is None else args.seed
    workload = _workload(args, seed)
    profile = _named("--model-profile", args.model_profile or workload.profile, load_profile)
    rules = profile.rules if args.engine is None else _named("--engine", args.engine, rules_named)
    experiment = Experiment(workload, LabEngine(profile, rules, args.kv_tokens, args.slots), args.seed or 0)
    schedulers = args.scheduler or ([] if args.policy else DEFAULT_SCHEDULERS)
    candidates = {**_schedulers(schedulers), **_policies(args.policy or [])}
    return Plan(
        experiment, candidates, list(_warnings(experiment, candidates)), None if args.workload is None else seed
    )


def _workload(args: argparse.Namespace, seed: int) -> Workload:
    if args.workload is not None:
        return _named("--workload", args.workload, lambda name: load_workload(name, seed, args.requests))
    arrivals = read_trace(args.trace)[: args.requests]
    return Workload(args.trace.name, arrivals, max(arrivals[-1].seconds, 1.0))


def _named(option: str, name: str, load: Callable[[str], T]) -> T:
    try:
        return load(name)
    except LookupError as error:
        raise ValueError(f"{option} {name}: {error.args[0]}") from None


def _schedulers(names: Sequence[str]) -> dict[str, Document | None]:
    for name in names:
        if name != PRODUCT:
            _named("--scheduler", name, lambda name: make_order(name, {}, kv_tokens=1000, seed=0))
        if names.count(name) > 1:
            raise ValueError(f"--scheduler {name}: is given twice: leave one")
    return dict.fromkeys(names)


def _policies(paths: Sequence[Path]) -> dict[str, Document | None]:
    documents: dict[str, Document | None] = {}
    for path in paths:
        if str(path) in documents:
            raise ValueError(f"--policy {path}: is given twice: leave one")
        try:
            documents[str(path)] = read_policy(path)
        except (PolicyError, SecretError) as error:
            raise ValueError(f"--policy {'; '.join(str(error).splitlines())}") from None
    return documents


def _warnings(experiment: Experiment, candidates: dict[str, Document | None]) -> Iterator[str]:
    for path, document in candidates.items():
        if document is None:
            continue
        if document.mode == "Observe":
            yield f"{path} only observes, which would change nothing: shown is what it would do if it enforced"
        if document.engine.kind != experiment.engine.kind and experiment.engine.rules != "lightllm":
            yield f"{path} is for {document.engine.kind}, simulated is {experiment.engine.kind}: see --engine"
        known = {tenant.name for tenant in document.tenants}
        unknown = [name for name in experiment.workload.tenants if name not in known]
        if unknown and document.identity.on_unidentified != "Anonymous":
            names = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
            yield f"{path} has no tenant {names}: their requests are refused"


def _check_output(option: str, path: Path | None, ending: str) -> None:
    if path is None:
        return
    if path.suffix != ending:
        raise ValueError(f"--{option} {path}: must end in {ending}")
    if not path.parent.is_dir():
        raise ValueError(f"--{option} {path}: there is no such directory: make it first")
