"""Timestep spacing: which levels a solver visits, rising integers from 0 (the clean image) to the level of x_T."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from diffae.diffusion.settings import Spacing
from diffae.errors import ConfigError


def levels_of(steps: int, spacing: Spacing, top: int) -> list[int]:
    """The `steps + 1` levels on 0..top, for any number of steps from 1 to `top`.

    "quadratic": from 1 to T, spaced as squares (Song et al., DDIM, 2021, Appendix D.2), but at least 1 apart.
    "squares": at top times the squares of 1/steps, 2/steps, ..., 1, which spends none of a few steps on level 1, where
    there is hardly any noise.
    "leading": evenly spaced from 1, as in the published code: 0, 1, 1 + T/steps, ...
    "trailing": evenly spaced up to T: 0, T/steps, ..., T.

    Raises:
        ConfigError: more steps than levels, or fewer than 1.
    """
    if not 1 <= steps <= top:
        raise ConfigError(f"steps is {steps}: must be between 1 and the {top} levels the model was trained with")
    if spacing == "trailing":
        return [(i * top + steps // 2) // steps for i in range(steps + 1)]
    if spacing == "leading":
        return [0] + [1 + i * top // steps for i in range(steps)]
    if spacing == "squares":
        squares = [top * (i / steps) ** 2 for i in range(1, steps + 1)]
    else:
        squares = [1 + (top - 1) * (i / (steps - 1)) ** 2 for i in range(steps)] if steps > 1 else [top]
    levels = [0]
    for level in squares:
        levels.append(max(levels[-1] + 1, round(level)))
    return levels


def require_rising(levels: Sequence[int], top: int) -> None:
    """Raise `ConfigError` unless the levels rise from 0, by at least one step, to at most `top`."""
    rising = all(s < t for s, t in pairwise(levels))
    if not (len(levels) >= 2 and levels[0] == 0 and rising and levels[-1] <= top):
        shown = ", ".join(map(str, levels[:8])) + (", ..." if len(levels) > 8 else "")
        raise ConfigError(f"levels are {shown}: must rise from 0 to at most {top}; timesteps.levels_of makes them")
