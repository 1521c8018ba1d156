"""`fairqueue-drain`: tells the proxy of this pod to drain, over loopback. What a sidecar's preStop runs.

It runs in the sidecar's own share of the CPU, beside the streams that are to be finished: so nothing is imported but
sockets (`fairqueue drain` does the same in words, with options).
"""

import socket
import sys

LOCAL = "127.0.0.1", 9821
SECONDS = 5.0


def main() -> int:
    """Exit code 1: no proxy answers there as it should. Kubernetes then logs what this prints, and goes on."""
    try:
        with socket.create_connection(LOCAL, SECONDS) as connection:
            connection.sendall(b"POST /-/drain HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")
            status = connection.recv(4096).split(b" ", 2)[1:2]
    except OSError as error:
        print(f"fairqueue-drain: no proxy at {LOCAL[0]}:{LOCAL[1]}: {error}", file=sys.stderr)
        return 1
    if status != [b"200"]:
        print(f"fairqueue-drain: what answers at {LOCAL[0]}:{LOCAL[1]} is no proxy", file=sys.stderr)
        return 1
    return 0
