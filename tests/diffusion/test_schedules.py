"""Noise schedules against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from diffae.config import DiffusionConfig, Schedule
from diffae.diffusion.schedules import alpha_bar_of

SCHEDULES: list[Schedule] = ["linear", "cosine", "constant"]


@pytest.mark.parametrize("levels", [2, 10, 100, 1000, 4000])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_falls_from_one_towards_zero(schedule: Schedule, levels: int) -> None:
    alpha_bar = alpha_bar_of(DiffusionConfig(schedule, levels))
    assert alpha_bar.dtype == np.float64
    assert alpha_bar.shape == (levels + 1,)
    assert alpha_bar[0] == 1
    assert (np.diff(alpha_bar) < 0).all()
    assert 0 < alpha_bar[-1] < 0.01


def test_linear_written_out() -> None:
    alpha_bar, expected = alpha_bar_of(DiffusionConfig("linear")), 1.0
    for t in range(1, 1001):
        expected *= 1 - (1e-4 + (0.02 - 1e-4) * (t - 1) / 999)
        assert alpha_bar[t] == pytest.approx(expected, rel=1e-10)


def test_constant_written_out() -> None:
    alpha_bar = alpha_bar_of(DiffusionConfig("constant"))
    assert alpha_bar == pytest.approx(0.992 ** np.arange(1001), rel=1e-10)


@pytest.mark.parametrize("levels", [100, 1000])
def test_cosine_written_out(levels: int) -> None:
    alpha_bar = alpha_bar_of(DiffusionConfig("cosine", levels))

    def f(t: int) -> float:
        return math.cos((t / levels + 0.008) / 1.008 * math.pi / 2) ** 2

    for t in range(levels):  # the last beta would be 1, and is held at 0.999
        assert alpha_bar[t] == pytest.approx(f(t) / f(0), rel=1e-9)
    assert alpha_bar[levels] == pytest.approx(0.001 * alpha_bar[levels - 1], rel=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_other_numbers_of_levels_follow_the_same_curve(schedule: Schedule) -> None:
    fine, coarse = (alpha_bar_of(DiffusionConfig(schedule, levels)) for levels in (1000, 200))
    # half way; cumulated noise -log(alpha_bar) is about the same
    assert math.log(coarse[100]) == pytest.approx(math.log(fine[500]), rel=0.05)
