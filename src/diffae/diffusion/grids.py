"""Which levels a solver visits: rising integers from 0 (the clean image) to the level of x_T."""

from __future__ import annotations

from diffae.config import Grid
from diffae.errors import ConfigError


def levels_of(steps: int, grid: Grid, top: int) -> list[int]:
    """The `steps + 1` levels of a grid on 0..top, for any number of steps from 1 to `top`.

    "quadratic": from 1 to T, spaced as squares (Song et al., DDIM, 2021, Appendix D.2), but never less than 1 apart.
    "leading": evenly spaced from 1, as the published code's: 0, 1, 1 + T/steps, ...
    "trailing": evenly spaced up to T: 0, T/steps, ..., T.

    Raises:
        ConfigError: more steps than levels, or fewer than 1.
    """
    if not 1 <= steps <= top:
        raise ConfigError(f"steps is {steps}: must be between 1 and the {top} levels the model was trained with")
    if grid == "trailing":
        return [(i * top + steps // 2) // steps for i in range(steps + 1)]
    if grid == "leading":
        return [0] + [1 + i * top // steps for i in range(steps)]
    levels = [0, 1] if steps > 1 else [0, top]
    for i in range(1, steps):
        levels.append(max(levels[-1] + 1, round(1 + (top - 1) * (i / (steps - 1)) ** 2)))
    return levels
