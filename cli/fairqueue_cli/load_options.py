"""What `fairqueue load` is asked for, checked whole before anything is sent. Every error is one line with the fix."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fairqueue_cli.load_keys import read_keys
from fairqueue_cli.load_open import OpenPlan
from fairqueue_cli.load_spec import LoadPlan, SpecError, Stop, TenantSpec, parse_target, parse_tenants, parse_until
from fairqueue_sim.lab.trace import TraceError, read_trace

if TYPE_CHECKING:
    from fairqueue_sim.lab.workloads import Workload

_DEFAULT_DURATION_SECONDS = 30.0
_LARGEST_SEED = 2**32 - 1
_OF_TENANTS = ("duration", "until")
_OF_WORKLOADS = ("speed", "keys", "key")
_LAB_MISSING = "needs numpy: pip install 'fairqueue[lab]'"


@dataclass(frozen=True, slots=True)
class ClosedLoad:
    """A closed loop, and when it ends."""

    plan: LoadPlan
    stop: Stop


@dataclass(frozen=True, slots=True)
class OpenLoad:
    """An open loop, and the workload that it sends."""

    plan: OpenPlan
    workload: "Workload"


def read_options(args: argparse.Namespace) -> ClosedLoad | OpenLoad:
    """Raises SpecError."""
    sources = [name for name in ("workload", "trace", "tenant") if getattr(args, name)]
    if len(sources) != 1:
        given = " and ".join(f"--{name}" for name in sources) or "nothing to send"
        raise SpecError(f"{given}: give one of --workload NAME, --trace FILE, --tenant SPEC (once or more)")
    closed = sources == ["tenant"]
    for name in _OF_WORKLOADS if closed else _OF_TENANTS:
        if getattr(args, name) not in (None, []):
            raise SpecError(f"--{name}: only with {'--workload or --trace' if closed else '--tenant'}")
    for name, least, most in (("requests", 1, None), ("seed", 0, _LARGEST_SEED)):
        value = getattr(args, name)
        if value is not None and not least <= value <= (most or value):
            raise SpecError(f"--{name} {value}: must be {least} or more{f', at most {most}' if most else ''}")
    if args.ignore_eos and args.api == "tgi":
        raise SpecError("--ignore-eos: TGI's API has no such field; leave it, or take --api openai")
    return _closed(args) if closed else _open(args)


def _plan(args: argparse.Namespace, tenants: tuple[TenantSpec, ...] = ()) -> LoadPlan:
    target = parse_target(args.target)
    return LoadPlan(target, args.api, tenants, args.seed or 0, args.model, args.client, args.ignore_eos)


def _closed(args: argparse.Namespace) -> ClosedLoad:
    tenants = parse_tenants(args.tenant)
    return ClosedLoad(_plan(args, tenants), _stop(args, tenants))


def _stop(args: argparse.Namespace, tenants: tuple[TenantSpec, ...]) -> Stop:
    ends = [name for name in ("duration", "requests", "until") if getattr(args, name) is not None]
    if len(ends) > 1:
        raise SpecError(f"--{ends[0]} and --{ends[1]}: give one of --duration, --requests, --until")
    if args.until is not None:
        return parse_until(args.until, tenants)
    if args.requests is not None:
        return Stop(requests=args.requests)
    duration = _DEFAULT_DURATION_SECONDS if args.duration is None else args.duration
    if not 0 < duration < float("inf"):
        raise SpecError(f"--duration {duration:g}: must be a number of seconds above 0")
    return Stop(duration_seconds=duration)


def _open(args: argparse.Namespace) -> OpenLoad:
    speed = 1.0 if args.speed is None else args.speed
    if not 0 < speed < float("inf"):
        raise SpecError(f"--speed {speed:g}: must be a number above 0, like 10 for ten times as fast")
    plan = _plan(args)
    workload = _workload(args)
    keys = read_keys(workload.tenants, args.keys, args.key or [])
    return OpenLoad(OpenPlan(plan, workload.arrivals, speed, keys), workload)


def _workload(args: argparse.Namespace) -> "Workload":
    try:
        from fairqueue_sim.lab.workloads import DEFAULT_SEED, UnknownWorkloadError, Workload, load_workload
    except ModuleNotFoundError as error:
        option = "--workload" if args.workload else "--trace"
        raise SpecError(f"{option}: {_LAB_MISSING} ({error.name} is missing)") from None
    if args.workload is not None:
        try:
            return load_workload(args.workload, DEFAULT_SEED if args.seed is None else args.seed, args.requests)
        except UnknownWorkloadError as error:
            raise SpecError(f"--workload {args.workload}: {error}") from None
    try:
        arrivals = read_trace(Path(args.trace))[: args.requests]
    except TraceError as error:
        raise SpecError(f"--trace {error}") from None
    return Workload(Path(args.trace).name, arrivals, max(arrivals[-1].seconds, 1.0))
