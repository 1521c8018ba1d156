"""One run: what was measured of one proxy in one go, and whether to believe it."""

import msgspec

from data_plane_bench.noise import Noise

__all__ = ["Run"]


class Run(msgspec.Struct, frozen=True, omit_defaults=True):
    """Figures by name, with their unit at its end. `invalid` says why they don't count; `troubles` what to know."""

    figures: dict[str, float] = {}
    noise: Noise = Noise()
    invalid: str = ""
    troubles: list[str] = []

    @property
    def remarks(self) -> list[str]:
        """All that there is to say about it."""
        noisy = [f"noisy: {self.noise.share:.0%} of the CPU went to others"] if self.noise.is_too_much else []
        return [*([f"invalid: {self.invalid}"] if self.invalid else []), *noisy, *self.troubles]
