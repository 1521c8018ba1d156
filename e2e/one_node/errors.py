"""What goes wrong with the node, said to people."""

__all__ = ["NodeError"]


class NodeError(Exception):
    """The first line says what to do; what follows quotes a log."""
