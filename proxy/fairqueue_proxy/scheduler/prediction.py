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


# Python 3.11 takes longer to look up a member than to call a function.
_, _MAX_TOKENS, _NONE = Prediction


class RecentMean:
    """Mean of the last `size` samples, in whole tokens, rounded up; None without a sample."""

    __slots__ = ("_samples", "_sum", "mean")

    def __init__(self, size: int) -> None:
        self._samples: deque[int] = deque(maxlen=size)
        self._sum = 0
        self.mean: int | None = None

    def add(self, sample: int) -> None:
        """Takes in one sample; the oldest one falls out when there are more than `size`."""
        if len(self._samples) == self._samples.maxlen:
            self._sum -= self._samples[0]
        self._samples.append(sample)
        self._sum += sample
        self.mean = -(-self._sum // len(self._samples))


def predict(mode: Prediction, tenant: RecentMean, pod: RecentMean, max_output_tokens: int | None) -> int:
    """Output tokens to reserve for one sequence."""
    if mode is _NONE:
        return 0
    if mode is _MAX_TOKENS and max_output_tokens is not None:
        return max_output_tokens
    guess = tenant.mean if tenant.mean is not None else pod.mean
    if guess is None:
        guess = FIRST_GUESS_TOKENS
    return guess if max_output_tokens is None or guess < max_output_tokens else max_output_tokens
