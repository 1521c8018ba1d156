"""`fairqueue validate`: what is wrong with policy files, all of it, before anything runs on them.

A problem is a result here, not a failure of the command: it goes to standard output, a line each, with file, field
and fix.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from fairqueue_api import (
    PolicyError,
    Problem,
    SecretDirectory,
    SecretError,
    check_policy,
    policy_warnings,
    read_resources,
    render,
)

HELP = """Check policy files as the API server does, and for what this version does not support yet.

examples:
  fairqueue validate policy.yaml
  fairqueue validate --secrets ./secrets policies/*.yaml
  kubectl get fairnesspolicies -A -o yaml | fairqueue validate -

A file may hold several documents; those that are no FairnessPolicy are skipped. Rules between fields are checked
once every field of a policy is well formed. Exit code 2: a policy cannot be used, or there is none; warnings are no
errors."""

_STANDARD_INPUT = "standard input"
# The kind of a resource that is skipped is repeated only if it looks like one.
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9]{0,62}")


@dataclass(slots=True)
class Finding:
    """What was found about one resource, or about a file that could not be read."""

    file: str
    # Which of the file's resources, where there are several.
    resource: str = ""
    policy: str = ""
    skipped: str = ""
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `fairqueue validate`."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="YAML or JSON; - is standard input")
    parser.add_argument(
        "--secrets",
        type=Path,
        metavar="DIR",
        help="also read the keys that a policy names, DIR/<secret>/<key>: each readable, each of one tenant",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Exit code 2: something is wrong."""
    secrets = SecretDirectory(args.secrets) if args.secrets is not None else None
    findings = [finding for name in args.files for finding in _check_file(name, secrets)]
    if all(finding.skipped for finding in findings):
        what, fix = "holds no FairnessPolicy", "name a file that does"
        findings.append(Finding(args.files[0], problems=[Problem(_source(args.files[0]), "", what, fix)]))
    is_valid = not any(finding.problems for finding in findings)
    if args.json:
        print(json.dumps({"valid": is_valid, "resources": [asdict(finding) for finding in findings]}, indent=2))
    else:
        print("\n".join(line for finding in findings for line in _lines(finding)))
    return 0 if is_valid else 2


def _check_file(name: str, secrets: SecretDirectory | None) -> Iterator[Finding]:
    source = _source(name)
    try:
        resources = read_resources(sys.stdin.buffer if name == "-" else Path(name), source)
    except PolicyError as error:
        yield Finding(name, problems=list(error.problems))
        return
    for resource in resources:
        finding = Finding(name, resource.label)
        if resource.is_policy:
            place = f"{source}, {resource.label}" if resource.label else source
            try:
                _check_policy(resource.mapping(place), place, secrets, finding)
            except PolicyError as error:
                finding.problems += error.problems
        else:
            finding.skipped = resource.kind if _KIND.fullmatch(resource.kind) else "unknown kind"
        yield finding


def _check_policy(content: dict[str, object], place: str, secrets: SecretDirectory | None, finding: Finding) -> None:
    policy = check_policy(content, place)
    finding.policy = f"{policy.metadata.namespace}/{policy.metadata.name}"
    finding.warnings = policy_warnings(policy, place)
    if secrets is None:
        return
    try:
        render(policy, secrets)
    except SecretError as error:
        # A problem with a field is one of this file; one without is of the key's own file.
        finding.problems += [replace(each, source=place) if each.path else each for each in error.problems]


def _lines(finding: Finding) -> Iterator[str]:
    place = f"{_source(finding.file)}, {finding.resource}" if finding.resource else _source(finding.file)
    if finding.skipped:
        yield f"{place}: skipped, {finding.skipped} is no FairnessPolicy"
    yield from (str(problem) for problem in finding.problems)
    yield from (str(replace(warning, source=f"{warning.source}: warning")) for warning in finding.warnings)
    if finding.policy and not finding.problems:
        yield f"{place}: {finding.policy} is valid"


def _source(name: str) -> str:
    return _STANDARD_INPUT if name == "-" else name
