"""How long a request's output will be: the length prediction of VTC (OSDI '24, section 4.4, Algorithm 3).

The prediction is what a dispatch reserves; it never changes what a request finally costs.
"""

import enum
from collections import deque

TENANT_SAMPLES = 5
POD_SAMPLES = 100
FIRST_GUESS_TOKENS = 256


class Prediction(enum.Enum):
    """What is reserved at dispatch for output not yet seen."""

    MEAN = "Mean"
    """The mean of the tenant's last outputs, else the pod's, else 256, capped by `max_tokens`."""
    MAX_TOKENS = "MaxTokens"
    """The longest output that the request may have; as `MEAN` where that is not known."""
    NONE = "None"
    """Nothing: plain VTC."""


class RecentMean:
    """Mean of the last `size` samples."""

    __slots__ = ("_samples", "_sum")

    def __init__(self, size: int) -> None:
        self._samples: deque[int] = deque(maxlen=size)
        self._sum = 0

    def add(self, sample: int) -> None:
        """Takes in one sample; the oldest one falls out when there are more than `size`."""
        if len(self._samples) == self._samples.maxlen:
            self._sum -= self._samples[0]
        self._samples.append(sample)
        self._sum += sample

    @property
    def mean(self) -> int | None:
        """The mean in whole tokens, rounded up; None without a sample."""
        return -(-self._sum // len(self._samples)) if self._samples else None


def predict(mode: Prediction, tenant: RecentMean, pod: RecentMean, max_output_tokens: int | None) -> int:
    """Output tokens to reserve for one sequence."""
    if mode is Prediction.NONE:
        return 0
    if mode is Prediction.MAX_TOKENS and max_output_tokens is not None:
        return max_output_tokens
    guess = next((mean for mean in (tenant.mean, pod.mean) if mean is not None), FIRST_GUESS_TOKENS)
    return guess if max_output_tokens is None else min(guess, max_output_tokens)
