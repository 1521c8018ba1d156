"""From a policy file to a checked policy: reading, shape, rules; the first step that fails reports all it found."""

from collections.abc import Mapping
from pathlib import Path

from .errors import PolicyError
from .models import FairnessPolicy
from .own_rules import broken_own_rules
from .rules import broken_rules
from .structure import parse_structure
from .yaml_reader import read_mapping


def load_policy(path: Path) -> FairnessPolicy:
    """The policy in a YAML or JSON file, checked as the API server checks it, and for what is not supported yet.

    Raises `PolicyError`. No secret is read: that is `render`'s.
    """
    return check_policy(read_mapping(path), str(path))


def check_policy(content: Mapping[str, object], source: str) -> FairnessPolicy:
    """Likewise, of a policy that has been read already; `source` is what problems call it."""
    policy = parse_structure(content, source)
    problems = broken_rules(policy, source) + broken_own_rules(policy, source)
    if problems:
        raise PolicyError(problems)
    return policy
