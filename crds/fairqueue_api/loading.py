"""From a policy file to a checked policy: reading, shape, rules; the first step that fails reports all it found."""

from pathlib import Path

from .errors import PolicyError
from .models import FairnessPolicy
from .rules import broken_rules
from .structure import parse_structure
from .yaml_reader import read_mapping


def load_policy(path: Path) -> FairnessPolicy:
    """The policy in a YAML or JSON file, checked as the API server checks it, and for what is not supported yet.

    Raises `PolicyError`. No secret is read: that is `render`'s.
    """
    source = str(path)
    policy = parse_structure(read_mapping(path), source)
    problems = broken_rules(policy, source)
    if problems:
        raise PolicyError(problems)
    return policy
