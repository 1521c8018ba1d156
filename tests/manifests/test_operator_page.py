"""`docs/operator.md` names what there is."""

import argparse
import re

from fairqueue_operator import operator_options
from manifests.reading import ROOT, objects_of, one

PAGE = (ROOT / "docs" / "operator.md").read_text()


def test_the_page_has_every_option_with_its_default() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    operator_options.add_arguments(parser)
    rows = dict(re.findall(r"^\| `(--\w+)` \| (.+?) \|", PAGE, re.MULTILINE))
    assert {action.option_strings[0] for action in parser._actions} == set(rows)
    for action in parser._actions:
        if action.default is not None:
            assert rows[action.option_strings[0]] == f"`{action.default}`"


def test_the_page_has_every_right_of_the_manifests() -> None:
    base = objects_of("base")
    roles = [one("ClusterRole", "fairqueue-operator", base), one("Role", "fairqueue-operator", base)]
    roles.append(one("Role", "fairqueue-operator", objects_of("overlays/tenant-namespace")))
    held = {
        (resource, verb)
        for role in roles
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    table = PAGE.partition("## What it may do")[2].partition("\n## ")[0]
    told = {
        (resource.partition(".")[0], verb)
        for verbs, resource in re.findall(r"^\| ([a-z,; ]+) \| `([a-z./0-9]+)`", table, re.MULTILINE)
        for verb in re.split("[,;] ", verbs)
        if verb != "verbs"
    }
    assert told == held
