"""The digest under which a client key is known: the only form of it outside the file it is kept in."""

from hashlib import sha256


def digest(credential: bytes) -> str:
    """SHA-256, lower-case hex, of the bare credential: no scheme such as `Bearer`, no white space around it."""
    return sha256(credential).hexdigest()
