"""Which levels a solver visits: rising integers from 0 (the clean image) to the level of x_T."""

from __future__ import annotations

from diffae.config import Grid
from diffae.errors import ConfigError


def levels_of(steps: int, grid: Grid, top: int) -> list[int]:
    """The `steps + 1` levels of a grid on 0..top, evenly spaced, for any number of steps from 1 to `top`.

    "trailing" ends at T: 0, T/steps, ..., T. "leading" starts at 1, as the published code does: 0, 1, 1 + T/steps, ...

    Raises:
        ConfigError: more steps than levels, or fewer than 1.
    """
    if not 1 <= steps <= top:
        raise ConfigError(f"steps is {steps}: must be between 1 and the {top} levels the model was trained with")
    if grid == "trailing":
        return [(i * top + steps // 2) // steps for i in range(steps + 1)]
    return [0] + [1 + i * top // steps for i in range(steps)]
