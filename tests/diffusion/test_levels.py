"""Which levels a batch is given: their range and their distribution."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from scipy import stats

from diffae.config import LevelSampling
from diffae.diffusion.levels import MIDDLE, draw_levels

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
def test_the_seed_decides(how: LevelSampling) -> None:
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

    t = draw("middle", 100_000).double() / 100_000  # levels so many that rounding does not count
    assert stats.kstest(t.numpy(), lambda f: distribution(torch.as_tensor(f)).numpy()).pvalue > 1e-3
