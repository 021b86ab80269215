"""BDIA: exact by algebra for any denoiser, one call per step, and close to the ODE."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from analytic import mixture, normal
from solving import decode_pair, encode_pair
from torch import Tensor

from diffae.config import DiffusionConfig
from diffae.diffusion.schedules import alpha_bar_of
from diffae.diffusion.settings import Spacing
from diffae.diffusion.timesteps import levels_of
from diffae.errors import ConfigError

ALPHA_BAR = alpha_bar_of(DiffusionConfig())

HAND = np.array([1.0, 0.64, 0.36])
"""Signals 1, 0.8, 0.6 and noises 0, 0.6, 0.8."""


def rough(x: Tensor, t: int) -> Tensor:
    """Nothing like a denoiser: BDIA is exact for any function."""
    return torch.sin(3 * x.roll(1, -1) + t)


def test_by_hand() -> None:
    seen: list[tuple[int, float]] = []

    def eps(x: Tensor, t: int) -> Tensor:
        seen.append((t, x.item()))
        return 0.5 * x

    x_0 = torch.tensor([[1.0]], dtype=torch.float64)
    x_T, x_below = states = encode_pair(eps, x_0, [0, 1, 2], HAND)
    x_1 = 0.8 * 1 + 0.6 * 0.5  # x_0 and its eps_hat, 0.5, put at level 1
    x0_hat = (x_1 - 0.6 * 0.5 * x_1) / 0.8
    x_2 = (0.6 * x0_hat + 0.8 * 0.5 * x_1) + (1 - x0_hat)  # up from x_1, plus the error of the step down to x_0
    assert (x_T.item(), x_below.item()) == pytest.approx((x_2, x_1))
    assert seen == [(1, 1.0), (1, pytest.approx(x_1))]
    assert decode_pair(eps, states, [0, 1, 2], HAND).item() == pytest.approx(1.0)
    assert len(seen) == 3


@pytest.mark.parametrize("spacing", ["quadratic", "leading", "trailing"])
@pytest.mark.parametrize("steps", [2, 5, 20])
def test_decoding_returns_to_the_image(steps: int, spacing: Spacing) -> None:
    levels, calls, x_0 = levels_of(steps, spacing, 1000), list[int](), normal(3, 2, 3, 3)

    def eps(x: Tensor, t: int) -> Tensor:
        calls.append(t)
        return rough(x, t)

    x_T, x_below = encode_pair(eps, x_0, levels, ALPHA_BAR)
    assert calls == [levels[1], *levels[1:-1]]  # one for each step
    calls.clear()
    seen: list[int] = []
    back = decode_pair(eps, (x_T, x_below), levels, ALPHA_BAR, callback=lambda t, _x: seen.append(t))
    torch.testing.assert_close(back, x_0, atol=1e-9, rtol=0)
    assert calls == seen == levels[-2:0:-1]  # one less
    assert (decode_pair(eps, (x_T + 0.01, x_below), levels, ALPHA_BAR) - x_0).abs().max() > 1e-3  # both states matter


def test_rounding_is_not_amplified() -> None:
    levels, data = levels_of(50, "quadratic", 1000), mixture(ALPHA_BAR, dtype=torch.float32)
    x_0 = data.sample(4, torch.Generator().manual_seed(0))
    back = decode_pair(data.eps, encode_pair(data.eps, x_0, levels, ALPHA_BAR), levels, ALPHA_BAR)
    assert (back - x_0).square().mean().sqrt() < 1e-4


@pytest.mark.parametrize("steps", [25, 100])
def test_both_directions_follow_the_ode(steps: int) -> None:
    """On one Gaussian, whose ODE has a known solution."""
    data, levels = mixture(ALPHA_BAR, parts=1, std=0.5), levels_of(steps, "quadratic", 1000)
    x_0 = data.sample(50, torch.Generator().manual_seed(0))
    x_T, x_below = encode_pair(data.eps, x_0, levels, ALPHA_BAR)
    allowed = 2.5 / steps
    assert (x_T - data.flow(x_0, 0, 1000)).square().mean().sqrt() < allowed
    assert (x_below - data.flow(x_0, 0, levels[-2])).square().mean().sqrt() < allowed
    assert x_T.std().item() == pytest.approx(1, abs=0.1)
    noise = normal(50, 2, 3, 3)
    start = data.flow(noise, 1000, levels[-2])
    decoded = decode_pair(data.eps, (noise, start), levels, ALPHA_BAR)
    assert (decoded - data.flow(noise, 1000, 0)).square().mean().sqrt() < allowed


def test_gamma_is_one() -> None:
    """A change of x_0 to which eps_hat does not react is neither damped nor amplified."""
    levels = levels_of(10, "quadratic", 1000)

    def zero(x: Tensor, t: int) -> Tensor:
        return torch.zeros_like(x)

    one = torch.ones(1, 1, dtype=torch.float64)
    x_T, _ = encode_pair(zero, one, levels, ALPHA_BAR)
    assert x_T.item() == pytest.approx(math.sqrt(ALPHA_BAR[1000]))


def test_bad_levels() -> None:
    x = torch.zeros(1, 2, dtype=torch.float64)
    with pytest.raises(ConfigError, match="steps is 1: BDIA needs at least 2"):
        encode_pair(rough, x, [0, 1000], ALPHA_BAR)
    with pytest.raises(ConfigError, match="steps is 1: BDIA needs at least 2"):
        decode_pair(rough, (x, x), [0, 1000], ALPHA_BAR)
    with pytest.raises(ConfigError, match="levels are 0, 9, 5: must rise from 0 to at most 1000"):
        encode_pair(rough, x, [0, 9, 5], ALPHA_BAR)
