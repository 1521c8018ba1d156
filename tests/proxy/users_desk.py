"""A dispatcher without network whose tenants' users have leaves of their own."""

from fairqueue_proxy.job import Job
from fairqueue_proxy.scheduler import Limits, Node, Request
from proxy.desk import Desk


class UsersDesk(Desk):
    """Alice's users have leaves, under limits that hold for all of them together; bob is beside them."""

    def __init__(self, *, places: int = 1, **limits: int) -> None:
        super().__init__("alice", "bob", places=places)
        self.tenants["alice"].split = True
        self.dispatcher.scheduler.limit(self.alice, Limits(**limits))

    @property
    def alice(self) -> Node:
        return self.tenants["alice"].node

    def size(self, job: Job, user: str, prompt_tokens: int = 1) -> None:
        """All of it has come: it may have ten tokens more."""
        leaf = job.tenant.leaf(self.dispatcher.scheduler, user)
        job.request = Request(leaf, prompt_tokens=prompt_tokens, prompt_exact=True, max_output_tokens=10)

    def submit_of(
        self, user: str, name: str = "", *, size_bytes: int = 0, prompt_tokens: int = 1, tenant: str = "alice"
    ) -> Job:
        """A request of one of a tenant's users."""
        job = self.receiving(tenant, name, size_bytes)
        self.size(job, user, prompt_tokens)
        self.dispatcher.submit(job)
        return job

    def wait(self, seconds: float) -> None:
        """Time goes by."""
        self.clock.now_seconds += seconds
        self.dispatcher.pump()
