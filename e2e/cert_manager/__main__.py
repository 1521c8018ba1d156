"""Writes cert-manager's image, for whatever brings images into the cluster: python -m cert_manager FILE.tar"""

import argparse
import sys
from pathlib import Path

from cert_manager import IMAGE
from one_node.errors import NodeError
from one_node.go_programs import GoPrograms
from one_node.layout import Layout
from one_node.only_one import only_one
from one_node.pause_image import write_image


def main() -> int:
    parser = argparse.ArgumentParser(prog="cert_manager", description="Build cert-manager, once, and write its image.")
    parser.add_argument("archive", type=Path, metavar="FILE.tar", help="where to, as of `docker save`")
    args = parser.parse_args()
    try:
        with only_one():
            program = GoPrograms(Layout.of_this_machine().cache).cert_manager()
        write_image(IMAGE, program, args.archive)
    except NodeError as error:
        print(f"cert_manager: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
