"""Exact inversion on denoisers known in closed form: accuracy, number of network calls, and the residual reported."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import pytest
import torch
from analytic import Mixture, mixture, normal
from solving import decode, encode_explicit
from torch import Tensor

from diffae.config import DiffusionConfig
from diffae.diffusion import exact_inversion, solvers
from diffae.diffusion.exact_inversion import (
    Anderson,
    DecoderStep,
    ExactInversion,
    Response,
    damping,
    invert_step,
)
from diffae.diffusion.inversion import PredictNoiseOf
from diffae.diffusion.schedules import alpha_bar_of
from diffae.diffusion.settings import Spacing
from diffae.diffusion.timesteps import levels_of

ALPHA_BAR = alpha_bar_of(DiffusionConfig())


class Found(NamedTuple):
    """An `Encoded` that has a residual."""

    x_T: Tensor
    calls: Tensor
    residual: Tensor


def exact(eps: PredictNoiseOf, x_0: Tensor, levels: list[int], tolerance: float, max_iterations: int) -> Found:
    found = ExactInversion(tolerance, max_iterations).encode(eps, x_0, levels, ALPHA_BAR)
    assert found.residual is not None
    assert found.x_below is None
    return Found(found.x_T, found.calls, found.residual)


def encode(data: Mixture, x_0: Tensor, levels: list[int], tolerance: float = 1e-9, max_iterations: int = 100) -> Found:
    return exact(data.eps, x_0, levels, tolerance, max_iterations)


def images(data: Mixture, count: int = 6) -> Tensor:
    return data.sample(count, torch.Generator().manual_seed(0))


def mismatch(data: Mixture, x_s: Tensor, x_t: Tensor, s: int, t: int) -> Tensor:
    """Root mean square distance, image by image, of the decoder's step from x_t to x_s."""
    stepped = solvers.step(x_t, data.eps(x_t, t), ALPHA_BAR[t], ALPHA_BAR[s], clip=False)
    return (stepped - x_s).flatten(1).square().mean(1).sqrt()


# ------------------------------------------------------------------ accuracy


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("steps", [5, 10, 20])
def test_decoding_returns_to_the_image(steps: int, spacing: Spacing) -> None:
    data, levels = mixture(ALPHA_BAR), levels_of(steps, spacing, 1000)
    x_0 = images(data)
    found = encode(data, x_0, levels)
    assert found.residual.max() <= 1e-9
    back = decode(data.eps, found.x_T, levels, ALPHA_BAR)
    torch.testing.assert_close(back, x_0, atol=1e-7, rtol=0)
    explicit = encode_explicit(data.eps, x_0, levels, ALPHA_BAR)
    assert (decode(data.eps, explicit, levels, ALPHA_BAR) - x_0).abs().max() > 0.01  # the explicit code does not


@pytest.mark.parametrize("steps", [5, 20])
def test_in_float32(steps: int) -> None:
    data, levels = mixture(ALPHA_BAR, dtype=torch.float32), levels_of(steps, "leading", 1000)
    x_0 = images(data)
    found = encode(data, x_0, levels, tolerance=3e-6)
    assert found.x_T.dtype == torch.float32
    assert found.residual.max() <= 3e-6
    back = decode(data.eps, found.x_T, levels, ALPHA_BAR)
    torch.testing.assert_close(back, x_0, atol=1e-4, rtol=0)


@pytest.mark.parametrize("std", [0.05, 0.5])
@pytest.mark.parametrize("shape", [(1, 2, 2), (2, 3, 3), (3, 8, 8)])
def test_a_tolerance_below_rounding_is_no_error(shape: tuple[int, ...], std: float) -> None:
    """Iterates then repeat and their differences become dependent: the Gram matrix must not be singular."""
    means = torch.rand((5, *shape), generator=torch.Generator().manual_seed(0)) * 2 - 1
    data, levels = Mixture(means, std, ALPHA_BAR), levels_of(5, "leading", 1000)
    found = encode(data, images(data), levels, tolerance=1e-12, max_iterations=40)
    assert torch.isfinite(found.x_T).all()
    assert found.residual.max() < (0.1 if std < 0.5 else 1e-6)  # narrow parts are hard; wide ones reach rounding


def test_a_step_of_known_solution() -> None:
    """eps_hat = k x: x_s = (a + b k) x_t."""
    x_s, a, b, k = normal(3, 4), 1.25, -0.7, 0.9
    step, response = DecoderStep(a, b, in_noise=0.8, damping=1.0), Response.unknown(x_s)
    found = invert_step(lambda x, _rows: k * x, x_s, x_s.clone(), step, ExactInversion(1e-12, 50), response)
    torch.testing.assert_close(found.x, x_s / (a + b * k), atol=1e-9, rtol=0)
    torch.testing.assert_close(response.noise_like * 0.8, torch.full((3, 1), -b / a * k, dtype=x_s.dtype))


def test_pure_noise_is_inverted_in_one_call() -> None:
    """Data at a single point leave eps = (x - signal mean) / sigma_t, whose response is 1 / sigma_t throughout."""
    data = Mixture(torch.zeros(1, 2, 3, 3, dtype=torch.float64), 0.0, ALPHA_BAR)
    t, s = 500, 400
    step, x_s = DecoderStep.between(ALPHA_BAR[t], ALPHA_BAR[s]), normal(2, 18)
    response = Response(torch.ones(2, 1, dtype=torch.float64), torch.full((2,), 0.1, dtype=torch.float64))
    limits = ExactInversion(1.0, 1)

    def eps_hat(x: Tensor, _rows: Tensor) -> Tensor:
        return data.eps(x.view(-1, 2, 3, 3), t).flatten(1)

    found = invert_step(eps_hat, x_s, x_s / step.a, step, limits, response)
    torch.testing.assert_close(step.a * found.x + step.b * eps_hat(found.x, found.calls), x_s, atol=1e-12, rtol=0)
    assert found.calls.tolist() == [1, 1]


@pytest.mark.parametrize("level", [0, 30, 300, 999])
def test_damping_is_that_of_data_with_a_flat_spectrum_of_log_variances(level: int) -> None:
    """The exact flow of normal data scales a direction of variance v by sqrt(v / (alpha_bar v + 1 - alpha_bar))."""
    ab = float(ALPHA_BAR[level])
    v = torch.logspace(-4, math.log10(0.25), 10001, dtype=torch.float64)
    gain = v / (ab * v + 1 - ab)
    assert damping(ab) == pytest.approx(gain.mean().sqrt().item(), rel=1e-3)


def test_anderson_solves_a_linear_system_of_few_dimensions_at_once() -> None:
    """n + 1 residuals determine the solution in n dimensions, even where plain iteration diverges."""
    matrix = torch.tensor([[0.5, 1.0, 0.0], [0.0, -3.0, 0.2], [0.1, 0.0, 2.0]], dtype=torch.float64)
    offset = normal(2, 3)
    solution = torch.linalg.solve(torch.eye(3, dtype=torch.float64) - matrix, offset.T).T
    mix, x = Anderson(), torch.zeros_like(offset)
    for _ in range(8):
        x = mix.update(x, x @ matrix.T + offset - x)
    torch.testing.assert_close(x, solution, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("slope", [0.0, 0.125])
def test_anderson_with_dependent_differences(slope: float, dtype: torch.dtype) -> None:
    """All differences equal, or all zero, as at the limit of rounding: the update is finite."""
    mix, x, f = Anderson(), *((8 * normal(2, 50, seed=s, dtype=dtype)).round() for s in (1, 2))  # no rounding below
    for k in range(6):
        following = mix.update((1 + slope * k) * x, (1 - slope * k) * f)
        assert torch.isfinite(following).all()
        assert following.abs().max() < 1000
        if slope == 0:
            torch.testing.assert_close(following, x + f)


@pytest.mark.parametrize(("shape", "std", "parts", "steps"), [((2, 3, 3), 0.05, 5, 5), ((1, 2, 2), 0.02, 20, 20)])
def test_narrow_parts_are_solved_where_acceleration_alone_fails(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], std: float, parts: int, steps: int
) -> None:
    """Between narrow parts the denoiser jumps, and accelerated iterates overshoot."""
    means = torch.rand((parts, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    data, levels = Mixture(means, std, ALPHA_BAR), levels_of(steps, "leading", 1000)
    x_0 = images(data, 60)
    assert encode(data, x_0, levels, tolerance=1e-6).residual.max() <= 1e-6
    monkeypatch.setattr(exact_inversion, "OVERSHOT", torch.inf)
    assert encode(data, x_0, levels, tolerance=1e-6).residual.max() > 1e-3


def test_steps_from_the_best_iterate_grow_shorter() -> None:
    """Where g is steep and turns back, g' = -3, plain iteration diverges and a quarter of its step converges."""
    tried: list[float] = []

    def eps_hat(x: Tensor, _rows: Tensor) -> Tensor:
        tried.append(x.item())
        return 3 * x.clamp(-1, 1) + 0.01 * torch.sin(200 * x)  # not linear: no two iterates determine the solution

    start = torch.full((1, 1), 0.9, dtype=torch.float64)
    step, limits = DecoderStep(1.0, 1.0, in_noise=0.5, damping=1.0), ExactInversion(1e-3, 60)
    found = invert_step(eps_hat, torch.zeros_like(start), start, step, limits, Response.unknown(start))
    assert found.residual.item() <= 1e-3
    assert max(map(abs, tried)) < 10


# ------------------------------------------------------------------ network calls


def plain_calls(data: Mixture, x_0: Tensor, levels: list[int], tolerance: float) -> int:
    """Network calls, over all images, of plain iteration of the same fixed points with the same stop."""
    calls, x, eps = 0, x_0, torch.zeros_like(x_0)
    for s, t in pairwise(levels):
        a, b = solvers.coefficients(ALPHA_BAR[t], ALPHA_BAR[s])
        x_s, x = x, (x - b * eps) / a
        unfinished = torch.ones(len(x), dtype=torch.bool)
        while unfinished.any():
            calls += int(unfinished.sum())
            eps = data.eps(x, t)
            step = (x_s - b * eps) / a - x
            unfinished &= a * step.flatten(1).square().mean(1).sqrt() > tolerance
            x = torch.where(unfinished[:, None, None, None], x + step, x)
    return calls


@pytest.mark.parametrize(("steps", "share"), [(5, 0.25), (20, 0.6)])
def test_far_fewer_calls_than_plain_iteration(steps: int, share: float) -> None:
    data, levels = mixture(ALPHA_BAR), levels_of(steps, "leading", 1000)
    x_0 = images(data)
    found = encode(data, x_0, levels, tolerance=1e-7)
    assert found.residual.max() <= 1e-7
    assert found.calls.sum() < share * plain_calls(data, x_0, levels, 1e-7)


def test_finished_images_leave_the_batch() -> None:
    data, levels = mixture(ALPHA_BAR, std=0.05), levels_of(10, "leading", 1000)
    easy = data.means[:1]
    hard = data.means[1:3].mean(0, keepdim=True)  # between two parts
    x_0 = torch.cat([easy, hard, data.means[3:4]])
    given = torch.zeros(3, dtype=torch.int64)
    sizes: dict[int, list[int]] = {}

    def eps(x: Tensor, t: int, rows: Tensor) -> Tensor:
        assert len(x) == len(rows)
        given[rows] += 1
        sizes.setdefault(t, []).append(len(rows))
        return data.eps(x, t)

    found = exact(eps, x_0, levels, 1e-7, 60)
    assert torch.equal(found.calls, given)
    assert given[1] > given[0]
    assert list(sizes) == levels[1:]
    for at_level in sizes.values():
        assert at_level == sorted(at_level, reverse=True)
    assert any(at_level[0] == 3 and at_level[-1] < 3 for at_level in sizes.values())


def test_rows_say_which_images_are_in_the_batch() -> None:
    """Each image has its own denoiser, as it has its own z_sem; results equal those of each image alone."""
    members = [mixture(ALPHA_BAR, seed=seed, std=std) for seed, std in ((0, 0.05), (1, 0.5), (2, 0.2))]
    x_0 = torch.cat([images(data, 1) for data in members])
    levels = levels_of(10, "leading", 1000)

    def eps(x: Tensor, t: int, rows: Tensor) -> Tensor:
        return torch.cat([members[row].eps(x[i : i + 1], t) for i, row in enumerate(rows.tolist())])

    together = exact(eps, x_0, levels, 1e-9, 100)
    assert len(set(together.calls.tolist())) > 1
    for i, data in enumerate(members):
        alone = encode(data, x_0[i : i + 1], levels)
        torch.testing.assert_close(together.x_T[i], alone.x_T[0], atol=1e-7, rtol=0)
        assert together.calls[i] == alone.calls[0]


def test_an_image_is_encoded_as_it_is_in_a_batch() -> None:
    data, levels = mixture(ALPHA_BAR), levels_of(10, "leading", 1000)
    x_0 = images(data, 4)
    whole = encode(data, x_0, levels)
    for i in range(4):
        alone = encode(data, x_0[i : i + 1], levels)
        torch.testing.assert_close(alone.x_T[0], whole.x_T[i], atol=1e-7, rtol=0)
        assert alone.calls[0] == whole.calls[i]


# ------------------------------------------------------------------ the residual


def test_residual_is_the_mismatch_of_the_worst_step() -> None:
    """As it reaches the image. The states on the way are what the encoder returns for the first levels alone."""
    data, levels = mixture(ALPHA_BAR), levels_of(5, "leading", 1000)
    x_0 = images(data)
    for max_iterations in (1, 3):
        states = [x_0]
        worst = torch.zeros(len(x_0), dtype=torch.float64)
        for i, (s, t) in enumerate(pairwise(levels)):
            found = encode(data, x_0, levels[: i + 2], max_iterations=max_iterations)
            states.append(found.x_T)
            worst = torch.maximum(worst, damping(ALPHA_BAR[s]) * mismatch(data, states[-2], states[-1], s, t))
            torch.testing.assert_close(found.residual, worst)
        assert (worst > 1e-4).all()


@pytest.mark.parametrize(("steps", "spacing"), [(5, "leading"), (20, "quadratic"), (10, "trailing")])
def test_an_expected_residual_is_right_to_a_factor_of_ten(steps: int, spacing: Spacing) -> None:
    """The last update of a step is not evaluated, so that its residual is an estimate."""
    data, levels = mixture(ALPHA_BAR), levels_of(steps, spacing, 1000)
    x_0, below = images(data), images(data)
    for i, (s, t) in enumerate(pairwise(levels)):
        found = encode(data, x_0, levels[: i + 2], tolerance=1e-6)
        assert (damping(ALPHA_BAR[s]) * mismatch(data, below, found.x_T, s, t)).max() < 1e-5
        below = found.x_T


def test_too_few_iterations_are_reported() -> None:
    data, levels = mixture(ALPHA_BAR), levels_of(10, "leading", 1000)
    x_0 = images(data)
    found = encode(data, x_0, levels, tolerance=1e-9, max_iterations=2)
    assert (found.residual > 1e-9).all()
    assert (found.calls <= 2 * 10).all()
    back = decode(data.eps, found.x_T, levels, ALPHA_BAR)
    assert (back - x_0).abs().amax(dim=(1, 2, 3)).min() > 1e-6


def test_more_iterations_never_make_it_worse() -> None:
    """The best iterate is returned, also where acceleration overshoots."""
    data = mixture(ALPHA_BAR, std=0.05)
    x_0 = images(data)
    residuals = [encode(data, x_0, [0, 600], max_iterations=n).residual for n in range(1, 12)]
    for fewer, more in pairwise(residuals):
        assert (more <= fewer).all()


def test_nan_from_the_network_gives_an_infinite_residual() -> None:
    data = mixture(ALPHA_BAR)
    x_0 = images(data, 3)

    def eps(x: Tensor, t: int, rows: Tensor) -> Tensor:
        out = data.eps(x, t)
        out[rows == 1] = torch.nan
        return out

    found = exact(eps, x_0, levels_of(5, "leading", 1000), 1e-9, 60)
    assert found.residual[1] == torch.inf
    assert found.residual[[0, 2]].max() <= 1e-9
