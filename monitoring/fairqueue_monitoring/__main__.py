"""Writes what is made of code: python -m fairqueue_monitoring [--rules FOLDER --factor N]."""

import argparse
import sys
from pathlib import Path

from .made_files import made_files, rule_files, write
from .rule_files import RUNBOOKS_URL, Rules

_EPILOG = (
    "example: python -m fairqueue_monitoring --rules /etc/prometheus/fairqueue --runbooks https://wiki.example/llm"
)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="fairqueue_monitoring",
        description="Write rules, dashboard and the pages about them anew, or only rule files elsewhere.",
        epilog=_EPILOG,
    )
    parser.add_argument("--rules", type=Path, metavar="FOLDER", help="only the rule files, into this folder")
    parser.add_argument(
        "--factor", type=float, default=1.0, metavar="N", help="divide every duration by it (%(default)s)"
    )
    parser.add_argument(
        "--runbooks", default=RUNBOOKS_URL, metavar="URL", help="where docs/runbooks is read (%(default)s)"
    )
    args = parser.parse_args()
    try:
        rules = Rules(args.factor, args.runbooks.rstrip("/"))
        files = rule_files(rules, args.rules) if args.rules else made_files(rules)
    except ValueError as error:
        print(f"fairqueue_monitoring: --factor: {error}", file=sys.stderr)
        return 2
    print(*write(files), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
