"""Noise schedules against their definitions, and the distribution of the levels drawn in training."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
from scipy import stats

from diffae.config import DiffusionConfig
from diffae.diffusion.schedules import MIDDLE, alpha_bar_of, draw_levels
from diffae.diffusion.settings import LevelSampling, Schedule

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

    for t in range(levels):  # the last beta would be 1, and is limited to 0.999
        assert alpha_bar[t] == pytest.approx(f(t) / f(0), rel=1e-9)
    assert alpha_bar[levels] == pytest.approx(0.001 * alpha_bar[levels - 1], rel=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_other_numbers_of_levels_follow_the_same_curve(schedule: Schedule) -> None:
    fine, coarse = (alpha_bar_of(DiffusionConfig(schedule, levels)) for levels in (1000, 200))
    # half way: -log(alpha_bar) is about the same
    assert math.log(coarse[100]) == pytest.approx(math.log(fine[500]), rel=0.05)


# ------------------------------------------------------------------ levels drawn in training

COUNT = 20_000


def draw(how: LevelSampling, top: int, seed: int = 0) -> torch.Tensor:
    return draw_levels(how, top, COUNT, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("how", get_args(LevelSampling))
@pytest.mark.parametrize("top", [2, 10, 1000])
def test_levels_lie_in_1_to_top_and_reach_both_ends(how: LevelSampling, top: int) -> None:
    t = draw(how, top)
    assert t.shape == (COUNT,)
    assert t.dtype == torch.int64
    assert (int(t.min()), int(t.max())) == (1, top)


@pytest.mark.parametrize("how", get_args(LevelSampling))
def test_levels_are_a_function_of_the_seed(how: LevelSampling) -> None:
    assert torch.equal(draw(how, 1000), draw(how, 1000))
    assert not torch.equal(draw(how, 1000), draw(how, 1000, seed=1))


def test_uniform_levels_are_uniform() -> None:
    counts = torch.bincount(draw("uniform", 10), minlength=11)[1:]
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_middle_levels_are_logit_normal_with_a_quarter_uniform() -> None:
    mean, std = MIDDLE

    def distribution(fraction: torch.Tensor) -> torch.Tensor:
        logit_normal = torch.from_numpy(stats.norm.cdf(torch.logit(fraction).numpy(), mean, std))
        return 0.75 * logit_normal + 0.25 * fraction

    t = draw("middle", 100_000).double() / 100_000  # so many levels that rounding is negligible
    assert stats.kstest(t.numpy(), lambda f: distribution(torch.as_tensor(f)).numpy()).pvalue > 1e-3
