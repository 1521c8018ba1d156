"""Names for users that do not tell who they are: the same user has the same one, nobody finds the user by it."""

import hashlib
from typing import Final

from fairqueue_proxy.identity import NOBODY
from fairqueue_proxy.job import Job

_PSEUDONYM_BYTES: Final = 6


class Pseudonyms:
    """`key` makes them: with another one they are others."""

    def __init__(self, key: bytes) -> None:
        self._keyed = hashlib.blake2b(key=key, digest_size=_PSEUDONYM_BYTES)

    def of(self, job: Job) -> str:
        """Who below the tenant sent it; empty: nobody in particular. The same name below another tenant is somebody
        else."""
        member = job.identity or (job.call.user if job.call is not None else None)
        if member is None or member == NOBODY:
            return ""
        hashed = self._keyed.copy()
        hashed.update(f"{job.tenant.name}\n{member}".encode())
        return hashed.hexdigest()
