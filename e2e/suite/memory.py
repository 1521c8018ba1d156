"""A container whose memory runs out."""

from suite.kubectl import Kubectl

# Many small ones, so that the kernel takes the container's own process for the largest.
_FILL = """
import os, time
for number in range(90):
    if not os.fork():
        block = bytearray(os.urandom(1 << 20) * 9)
        time.sleep(30)
        os._exit(0)
time.sleep(30)
"""


def run_out(kubectl: Kubectl, pod: str, container: str) -> None:
    """Fills the container's memory to its limit, so that the kernel kills its process."""
    kubectl.run("exec", pod, "-c", container, "--", "sh", "-c", f"python -c '{_FILL}' >/dev/null 2>&1 &")
