"""DDIM and DPM-Solver++ against closed forms (points, one Gaussian, a mixture) and cases worked by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from analytic import Mixture, mixture, normal
from solving import decode, decode_2m, encode_explicit, encode_official
from torch import Tensor

from diffae.config import DiffusionConfig
from diffae.diffusion import solvers
from diffae.diffusion.exact_inversion import ExactInversion
from diffae.diffusion.schedules import alpha_bar_of
from diffae.diffusion.settings import Schedule, Spacing
from diffae.diffusion.timesteps import levels_of
from diffae.errors import ConfigError

ALPHA_BAR = alpha_bar_of(DiffusionConfig())

HAND = np.array([1.0, 0.64, 0.36])
"""Signals 1, 0.8, 0.6 and noises 0, 0.6, 0.8."""


class Recorded:
    """A denoiser that returns given numbers and records the levels it is called with."""

    def __init__(self, *outputs: float) -> None:
        self.outputs, self.levels = list(outputs), list[int]()

    def __call__(self, x: Tensor, t: int) -> Tensor:
        self.levels.append(t)
        return torch.full_like(x, self.outputs[len(self.levels) - 1])


def scalar(value: float) -> Tensor:
    return torch.tensor([[value]], dtype=torch.float64)


# ------------------------------------------------------------------ by hand


def test_x0_hat_and_clipped_by_hand() -> None:
    assert solvers.x0_hat(scalar(1.0), scalar(0.2), 0.64).item() == pytest.approx((1 - 0.6 * 0.2) / 0.8)
    x_0, eps = solvers.clipped(scalar(1.1), scalar(-0.5), 0.64)  # x0_hat = 1.75
    assert x_0.item() == 1
    assert eps.item() == pytest.approx(0.5)  # so that 0.8 * 1 + 0.6 * 0.5 = 1.1
    x_0, eps = solvers.clipped(scalar(0.1), scalar(0.5), 0.64)  # x0_hat = -0.25: nothing to clip
    assert (x_0.item(), eps.item()) == pytest.approx((-0.25, 0.5))


@pytest.mark.parametrize("clip", [False, True])
def test_decode_by_hand(clip: bool) -> None:
    denoiser = Recorded(0.2, -0.3)
    # t = 2: x0_hat = (0.5 - 0.8 * 0.2) / 0.6 = 0.34 / 0.6, then x_1 = 0.8 * x0_hat + 0.6 * 0.2
    x_1 = 0.8 * 0.34 / 0.6 + 0.12
    expected = (x_1 + 0.6 * 0.3) / 0.8
    got = decode(denoiser, scalar(0.5), [0, 1, 2], HAND, clip=clip)
    assert got.item() == pytest.approx(expected)  # no x0_hat leaves [-1, 1] here: clipping changes nothing
    assert denoiser.levels == [2, 1]


def test_decode_clipped_by_hand() -> None:
    # t = 2: x0_hat = 1.4 / 0.6 -> 1, eps -> (1 - 0.6) / 0.8 = 0.5, x_1 = 0.8 + 0.3 = 1.1
    # t = 1: x0_hat = (1.1 + 0.06) / 0.8 = 1.45 -> 1
    assert decode(Recorded(-0.5, -0.1), scalar(1.0), [0, 1, 2], HAND, clip=True).item() == 1
    got = decode(Recorded(-0.5, 0.9), scalar(1.0), [0, 1, 2], HAND, clip=True)
    assert got.item() == pytest.approx((1.1 - 0.54) / 0.8)


def test_callback_gets_x0_hat_of_every_step() -> None:
    seen: list[tuple[int, float]] = []
    back = decode(Recorded(0.2, -0.3), scalar(0.5), [0, 1, 2], HAND, callback=lambda t, x: seen.append((t, x.item())))
    assert [t for t, _ in seen] == [2, 1]
    assert seen[0][1] == pytest.approx(0.34 / 0.6)
    assert seen[1][1] == pytest.approx(back.item())  # the last one is the image


def test_encode_explicit_by_hand() -> None:
    denoiser = Recorded(0.5, -0.5)
    # x_1 = 0.8 * 0.5 + 0.6 * 0.5 = 0.7;  x0_hat = (0.7 + 0.3) / 0.8 = 1.25;  x_2 = 0.6 * 1.25 - 0.8 * 0.5
    got = encode_explicit(denoiser, scalar(0.5), [0, 1, 2], HAND)
    assert got.item() == pytest.approx(0.75 - 0.4)
    assert denoiser.levels == [1, 1]  # the clean image is given as level 1


def test_encode_explicit_clipped_by_hand() -> None:
    # x_1 = 0.8 * 1 + 0.6 * 0.5 = 1.1;  x0_hat = 1.4 / 0.8 -> 1, eps -> 0.3 / 0.6 = 0.5;  x_2 = 0.6 + 0.4
    got = encode_explicit(Recorded(0.5, -0.5), scalar(1.0), [0, 1, 2], HAND, clip=True)
    assert got.item() == pytest.approx(1.0)


def test_encode_official_by_hand() -> None:
    denoiser = Recorded(0.2, 0.2)
    # x_0 counts as level 1: x0_hat = (0.5 - 0.12) / 0.8 = 0.475, x = 0.6 * 0.475 + 0.16; beyond the last
    # level alpha_bar is 0: the code is the last eps
    got = encode_official(denoiser, scalar(0.5), [0, 1, 2], HAND, clip=False)
    assert got.item() == pytest.approx(0.2)
    assert denoiser.levels == [1, 2]


def test_encode_official_clipped_by_hand() -> None:
    # level 1: x0_hat = 1.3 / 0.8 -> 1, eps -> 0.2 / 0.6 = 1/3, x = 0.6 + 0.8 / 3
    # level 2: x0_hat = (0.8667 + 0.4) / 0.6 -> 1, eps -> (0.8667 - 0.6) / 0.8 = 1/3
    got = encode_official(Recorded(-0.5, -0.5), scalar(1.0), [0, 1, 2], HAND)
    assert got.item() == pytest.approx(1 / 3)
    unclipped = encode_official(Recorded(-0.5, -0.5), scalar(1.0), [0, 1, 2], HAND, clip=False)
    assert unclipped.item() == pytest.approx(-0.5)


# ------------------------------------------------------------------ closed forms


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("steps", [1, 3, 20])
def test_a_point_is_reached_from_anywhere_in_any_number_of_steps(steps: int, spacing: Spacing, clip: bool) -> None:
    data = mixture(ALPHA_BAR, parts=1, std=0.0)
    x_0 = decode(data.eps, normal(3, 2, 3, 3), levels_of(steps, spacing, 1000), ALPHA_BAR, clip=clip)
    torch.testing.assert_close(x_0, data.means.expand(3, -1, -1, -1), atol=1e-9, rtol=0)


@pytest.mark.parametrize("steps", [1, 7])
def test_a_gaussian_is_scaled_at_every_step_by_the_known_factor(steps: int) -> None:
    """With eps = k (x - m), k = sqrt(1 - alpha_bar) / variance, a step multiplies x - m by a + b k."""
    data = mixture(ALPHA_BAR, parts=1, std=0.3)
    levels = levels_of(steps, "trailing", 1000)
    factor = 1.0
    for s, t in pairwise(levels):
        alpha_bar, below = ALPHA_BAR[t], ALPHA_BAR[s]
        k = math.sqrt(1 - alpha_bar) / (0.09 * alpha_bar + 1 - alpha_bar)
        factor *= math.sqrt(below / alpha_bar) * (1 - math.sqrt(1 - alpha_bar) * k) + math.sqrt(1 - below) * k
    x_T = normal(2, 2, 3, 3)
    expected = data.means + factor * (x_T - math.sqrt(ALPHA_BAR[1000]) * data.means)
    got = decode(data.eps, x_T, levels, ALPHA_BAR)
    torch.testing.assert_close(got, expected, atol=1e-9, rtol=1e-9)


def orders(errors: list[float]) -> list[float]:
    """Observed orders of convergence, from errors at doubling numbers of steps."""
    return [math.log2(a / b) for a, b in pairwise(errors)]


STEPS = (100, 200, 400, 800)


@pytest.mark.parametrize("schedule", ["linear", "constant"])
def test_decoding_converges_to_the_ode_with_order_one(schedule: Schedule) -> None:
    alpha_bar = alpha_bar_of(DiffusionConfig(schedule, levels=8000))
    data = mixture(alpha_bar, parts=1, std=0.5)
    x_T = normal(2, 2, 3, 3)
    exact = data.flow(x_T, 8000, 0)
    errors = []
    for steps in STEPS:
        x_0 = decode(data.eps, x_T, levels_of(steps, "trailing", 8000), alpha_bar)
        errors.append((x_0 - exact).abs().max().item())
    assert errors[-1] < 0.05
    assert orders(errors)[-1] == pytest.approx(1, abs=0.2)


def test_explicit_encoding_converges_to_the_ode_with_order_one() -> None:
    alpha_bar = alpha_bar_of(DiffusionConfig(levels=8000))
    data = mixture(alpha_bar, parts=1, std=0.5)
    x_0 = data.sample(2, torch.Generator().manual_seed(0))
    exact = data.flow(x_0, 0, 8000)
    errors = []
    for steps in STEPS:
        x_T = encode_explicit(data.eps, x_0, levels_of(steps, "trailing", 8000), alpha_bar)
        errors.append((x_T - exact).abs().max().item())
    assert errors[-1] < 0.02
    assert orders(errors)[-1] == pytest.approx(1, abs=0.2)


def test_explicit_encoding_approaches_the_exact_inverse() -> None:
    alpha_bar = alpha_bar_of(DiffusionConfig(levels=2000))
    data = mixture(alpha_bar, std=0.5)
    x_0 = data.sample(2, torch.Generator().manual_seed(0))
    errors = []
    for steps in (25, 50, 100):
        levels = levels_of(steps, "trailing", 2000)
        exact = ExactInversion(1e-10, 100).encode(data.eps, x_0, levels, alpha_bar)
        assert exact.residual is not None
        assert exact.residual.max() <= 1e-10
        explicit = encode_explicit(data.eps, x_0, levels, alpha_bar)
        errors.append((explicit - exact.x_T).square().mean().sqrt().item())
    assert errors == sorted(errors, reverse=True)
    assert orders(errors)[-1] == pytest.approx(1, abs=0.3)


def test_samples_of_a_mixture_lie_on_it() -> None:
    """Noise decodes to both parts of a mixture about equally often."""
    data = Mixture(torch.tensor([[-0.8], [0.8]], dtype=torch.float64), 0.05, ALPHA_BAR)
    x_0 = decode(data.eps, normal(500, 1), levels_of(200, "trailing", 1000), ALPHA_BAR)
    assert ((x_0.abs() - 0.8).abs() < 0.25).all()
    assert (x_0 > 0).double().mean().item() == pytest.approx(0.5, abs=0.08)
    assert x_0[x_0 > 0].std().item() == pytest.approx(0.05, rel=0.2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept(dtype: torch.dtype) -> None:
    data, levels = mixture(ALPHA_BAR, dtype=dtype), [0, 300, 1000]
    x = normal(2, 2, 3, 3, dtype=dtype)
    for solve in (decode, decode_2m, encode_explicit, encode_official):
        assert solve(data.eps, x, levels, ALPHA_BAR).dtype == dtype


# ------------------------------------------------------------------ DPM-Solver++(2M)


def test_2m_by_hand() -> None:
    alpha_bar = np.array([1.0, 0.8, 0.5, 0.2])  # lambda = log(alpha / sigma) = log 2, 0, -log 2
    denoiser = Recorded(0.3, -0.2, 0.1)
    x_hat_3 = (1 - math.sqrt(0.8) * 0.3) / math.sqrt(0.2)
    x_2 = math.sqrt(0.5 / 0.8) * 1 + math.sqrt(0.5) * 0.5 * x_hat_3  # 1 - exp(-h) = 1/2 with h = log 2
    x_hat_2 = (x_2 + math.sqrt(0.5) * 0.2) / math.sqrt(0.5)
    extended = x_hat_2 + (x_hat_2 - x_hat_3) / 2  # steps of equal length: half of the last change
    x_1 = math.sqrt(0.2 / 0.5) * x_2 + math.sqrt(0.8) * 0.5 * extended
    expected = (x_1 - math.sqrt(0.2) * 0.1) / math.sqrt(0.8)
    got = decode_2m(denoiser, scalar(1.0), [0, 1, 2, 3], alpha_bar)
    assert got.item() == pytest.approx(expected)
    assert denoiser.levels == [3, 2, 1]


@pytest.mark.parametrize("levels", [[0, 1000], [0, 400, 1000]])
@pytest.mark.parametrize("clip", [False, True])
def test_2m_begins_and_ends_as_ddim(levels: list[int], clip: bool) -> None:
    data, x_T = mixture(ALPHA_BAR), 2 * normal(3, 2, 3, 3)
    seen: list[Tensor] = []
    got = decode_2m(data.eps, x_T, levels, ALPHA_BAR, clip=clip, callback=lambda _t, x: seen.append(x))
    expected = decode(data.eps, x_T, levels, ALPHA_BAR, clip=clip)
    torch.testing.assert_close(got, expected, atol=1e-9, rtol=0)
    assert len(seen) == len(levels) - 1
    torch.testing.assert_close(seen[0], solvers.x0_hat(x_T, data.eps(x_T, 1000), ALPHA_BAR[1000]))


def test_2m_converges_with_order_two() -> None:
    alpha_bar = alpha_bar_of(DiffusionConfig(levels=8000))
    data, x_T = mixture(alpha_bar, parts=1, std=0.5), normal(2, 2, 3, 3)
    exact = data.flow(x_T, 8000, 0)
    errors: dict[str, list[float]] = {"ddim": [], "2m": []}
    for steps in (10, 20, 40, 80):
        levels = levels_of(steps, "quadratic", 8000)
        for name, solve in (("ddim", decode), ("2m", decode_2m)):
            errors[name].append((solve(data.eps, x_T, levels, alpha_bar) - exact).abs().max().item())
    assert orders(errors["2m"])[-1] == pytest.approx(2, abs=0.35)
    assert orders(errors["ddim"])[-1] == pytest.approx(1, abs=0.2)
    assert errors["2m"][-1] < errors["ddim"][-1] / 4


def test_2m_clipped_stays_inside() -> None:
    data = Mixture(torch.full((1, 4), 0.95, dtype=torch.float64), 0.3, ALPHA_BAR)
    levels, x_T = levels_of(10, "quadratic", 1000), 2 * normal(20, 4)
    assert decode_2m(data.eps, x_T, levels, ALPHA_BAR).max() > 1.05
    assert decode_2m(data.eps, x_T, levels, ALPHA_BAR, clip=True).max() <= 1


@pytest.mark.parametrize("levels", [[], [0], [1, 5], [0, 5, 5], [0, 9, 5, 7], [0, 1001]])
def test_levels_must_rise_from_0(levels: list[int]) -> None:
    data, x = mixture(ALPHA_BAR), normal(1, 2, 3, 3)
    for solve in (decode, decode_2m, encode_explicit, encode_official):
        with pytest.raises(ConfigError, match=r"levels are .*: must rise from 0 to at most 1000"):
            solve(data.eps, x, levels, ALPHA_BAR)
    with pytest.raises(ConfigError, match=r"levels are .*: must rise from 0"):
        ExactInversion(1e-3, 3).encode(data.eps, x, levels, ALPHA_BAR)
