"""What the VTC paper and its artifact's raw results say of workloads that can be made again: what the lab is held to.

Only those that did not change from run to run of the artifact: plain VTC's own difference varies sixfold between its
runs of the same suite, as it depends on how requests of one length fall into step with the batch.
"""

from dataclasses import dataclass

__all__ = ["PUBLISHED", "Published"]


@dataclass(frozen=True, slots=True)
class Published:
    """Average service difference and tokens per second. For table 5, FCFS was run for 600 s: `overload_600`."""

    source: str
    workload: str
    scheduler: str
    avg_difference: float
    tokens_per_second: float


PUBLISHED = (
    Published("table 5", "overload_600", "fcfs", 439.00, 876),
    Published("table 5", "overload", "vtc-oracle", 0.51, 895),
    Published("table 5", "overload", "vtc-oracle:50", 12.54, 904),
    Published("table 6", "overload_multi", "fcfs", 230.81, 875),
    Published("table 6", "overload_multi", "vtc-oracle", 36.34, 875),
    Published("table 6", "overload_multi", "vtc-oracle:50", 66.32, 875),
)
