"""Timestep spacings, for every number of steps."""

from __future__ import annotations

import numpy as np
import pytest

from diffae.diffusion.settings import Spacing
from diffae.diffusion.timesteps import levels_of
from diffae.errors import ConfigError


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_every_number_of_steps(spacing: Spacing) -> None:
    for steps in range(1, 1001):
        levels = levels_of(steps, spacing, 1000)
        assert len(levels) == steps + 1
        assert levels[0] == 0
        gaps = np.diff(levels)
        assert gaps.min() >= 1
        inner = gaps[1:] if spacing == "leading" else gaps  # leading: the first gap is the one from 0 to 1
        if len(inner):
            assert inner.max() - inner.min() <= 1  # evenly spaced, to a level
        if spacing == "leading":
            assert levels[1] == 1
            assert 1000 - 1000 / steps < levels[-1] <= 1000
        else:
            assert levels[-1] == 1000


def test_leading_is_the_published_spacing_where_steps_divide_the_levels() -> None:
    for steps in (1, 2, 5, 10, 20, 50, 100, 1000):
        assert levels_of(steps, "leading", 1000) == [0, *(t + 1 for t in range(0, 1000, 1000 // steps))]


@pytest.mark.parametrize("top", [10, 100, 1000])
def test_squares_for_every_number_of_steps(top: int) -> None:
    for steps in range(1, top + 1):
        levels = np.array(levels_of(steps, "squares", top))
        assert len(levels) == steps + 1
        assert (levels[0], levels[-1]) == (0, top)
        assert np.diff(levels).min() >= 1
        if steps <= np.sqrt(top):
            assert np.abs(levels - top * np.linspace(0, 1, steps + 1) ** 2).max() <= 0.501


@pytest.mark.parametrize("top", [10, 100, 1000])
def test_quadratic_for_every_number_of_steps(top: int) -> None:
    for steps in range(1, top + 1):
        levels = np.array(levels_of(steps, "quadratic", top))
        assert len(levels) == steps + 1
        assert levels[0] == 0
        assert levels[-1] == top
        assert np.diff(levels).min() >= 1
        assert steps == 1 or levels[1] == 1
        if steps <= np.sqrt(top):  # so few that no two squares round to the same level
            squares = np.linspace(0, 1, steps) ** 2 if steps > 1 else np.ones(1)
            assert np.abs(levels[1:] - (1 + (top - 1) * squares)).max() <= 1


def test_spacings_of_few_levels() -> None:
    assert levels_of(4, "quadratic", 10) == [0, 1, 2, 5, 10]
    assert levels_of(3, "trailing", 10) == [0, 3, 7, 10]
    assert levels_of(3, "leading", 10) == [0, 1, 4, 7]
    assert levels_of(1, "trailing", 10) == [0, 10]
    assert levels_of(10, "trailing", 10) == levels_of(10, "leading", 10) == list(range(11))


@pytest.mark.parametrize("steps", [-1, 0, 11])
@pytest.mark.parametrize("spacing", ["quadratic", "squares", "leading", "trailing"])
def test_out_of_range(spacing: Spacing, steps: int) -> None:
    with pytest.raises(ConfigError, match=f"steps is {steps}: must be between 1 and the 10 levels"):
        levels_of(steps, spacing, 10)
