"""`fairqueue render`: a policy and its keys as the document that a proxy runs on."""

import argparse
import sys
from pathlib import Path

from fairqueue_api import PolicyError, SecretDirectory, load_policy, policy_warnings, render
from fairqueue_cli.rendering import REFUSED

HELP = """Print the document that a proxy runs on: the policy with its keys, as one line of JSON.

example:
  fairqueue render --policy policy.yaml --secrets ./secrets > config/document.json
  fairqueue serve --config ./config --engine-kind TGI --engine http://127.0.0.1:8000

Clients' keys are in it as digests only, the engine's key (spec.engine.apiKeySecretRef) in clear. Warnings go to
standard error. Exit code 2: the policy can't be used."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `fairqueue render`."""
    parser.add_argument("--policy", type=Path, required=True, metavar="FILE", help="the FairnessPolicy")
    parser.add_argument("--secrets", type=Path, metavar="DIR", help="where the keys are: DIR/<secret>/<key>")


def run(args: argparse.Namespace) -> int:
    """Exit code 2: bad input, in one line on standard error."""
    secrets = SecretDirectory(args.secrets) if args.secrets is not None else None
    try:
        policy = load_policy(args.policy)
        document = render(policy, secrets)
    except PolicyError as error:
        print(f"{REFUSED}{error}", file=sys.stderr)
        return 2
    for warning in policy_warnings(policy, str(args.policy)):
        print(warning, file=sys.stderr)
    sys.stdout.write(document.to_json().decode() + "\n")
    return 0
