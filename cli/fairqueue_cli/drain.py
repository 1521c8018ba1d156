"""`fairqueue drain`: begins a drain of a proxy on this machine, over loopback."""

import argparse
import http.client
import sys

from fairqueue_api.address import read_address

HELP = """Tell a running proxy to finish what it has and to take nothing new.

example:
  fairqueue drain --local 127.0.0.1:9821"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `fairqueue drain`."""
    parser.add_argument(
        "--local", default="127.0.0.1:9821", metavar="HOST:PORT", help="the proxy's loopback address (%(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Exit code 1: there is no proxy at that address; 2: it is no address."""
    try:
        address = read_address(args.local, "--local", "127.0.0.1:9821")
    except ValueError as error:
        print(f"fairqueue drain: {error}", file=sys.stderr)
        return 2
    connection = http.client.HTTPConnection(*address, timeout=5)
    try:
        connection.request("POST", "/-/drain")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        print(f"fairqueue drain: no proxy answers at {args.local}: {error}", file=sys.stderr)
        return 1
    finally:
        connection.close()
    if status != 200:
        print(f"fairqueue drain: {args.local} answered {status}: is it a proxy's --local address?", file=sys.stderr)
        return 1
    print("drain begun")
    return 0
