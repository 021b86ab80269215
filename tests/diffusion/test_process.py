"""The forward process: identities between x_0, x_t, eps and v, and the loss of Eq. 6."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from analytic import normal
from torch import Tensor

from diffae.config import DiffusionConfig
from diffae.diffusion.process import MIN_SNR_GAMMA, DiffusionProcess, Scales
from diffae.diffusion.schedules import alpha_bar_of
from diffae.diffusion.settings import Prediction, Weighting
from diffae.errors import ConfigError

ALPHA_BAR = alpha_bar_of(DiffusionConfig())
T = torch.tensor([1, 10, 300, 600])


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    return normal(*shape, seed=1, dtype=torch.float32), normal(*shape, seed=2, dtype=torch.float32)


def x0_from_eps(scales: Scales, x_t: Tensor, eps: Tensor) -> Tensor:
    """Equation 5."""
    return (x_t - scales.noise * eps) / scales.signal


@pytest.mark.parametrize("shape", [(4, 3, 2, 2), (4, 5), (4,)])
def test_add_noise_written_out(shape: tuple[int, ...]) -> None:
    x_0, eps = pair(*shape)
    x_t = Scales.at(ALPHA_BAR, T, len(shape)).add_noise(x_0, eps)
    assert x_t.dtype == torch.float32
    for i, t in enumerate(T.tolist()):
        expected = math.sqrt(ALPHA_BAR[t]) * x_0[i] + math.sqrt(1 - ALPHA_BAR[t]) * eps[i]
        torch.testing.assert_close(x_t[i], expected)


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_a_number_as_level_equals_a_tensor_of_it(prediction: Prediction) -> None:
    x_0, eps = pair(2, 3)
    one, each = Scales.at_level(ALPHA_BAR[300]), Scales.at(ALPHA_BAR, torch.tensor([300, 300]), 2)
    torch.testing.assert_close(one.add_noise(x_0, eps), each.add_noise(x_0, eps))
    torch.testing.assert_close(x0_from_eps(one, x_0, eps), x0_from_eps(each, x_0, eps))
    torch.testing.assert_close(one.target(prediction, x_0, eps), each.target(prediction, x_0, eps))
    torch.testing.assert_close(one.eps_from_output(prediction, eps, x_0), each.eps_from_output(prediction, eps, x_0))
    weight = torch.as_tensor(each.loss_weight(prediction, "min_snr"))
    assert float(one.loss_weight(prediction, "min_snr")) == pytest.approx(weight[0].item(), rel=1e-4)


def test_level_zero_is_the_clean_image() -> None:
    x_0, eps = pair(2, 3)
    assert torch.equal(Scales.at(ALPHA_BAR, torch.zeros(2, dtype=torch.int64), 2).add_noise(x_0, eps), x_0)


def test_x0_from_eps_undoes_add_noise() -> None:
    x_0, eps = pair(4, 3, 2, 2)
    scales = Scales.at(ALPHA_BAR, T, 4)
    torch.testing.assert_close(x0_from_eps(scales, scales.add_noise(x_0, eps), eps), x_0, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_the_target_implies_eps(prediction: Prediction) -> None:
    x_0, eps = pair(4, 3, 2, 2)
    scales = Scales.at(ALPHA_BAR, T, 4)
    output = scales.target(prediction, x_0, eps)
    got = scales.eps_from_output(prediction, output, scales.add_noise(x_0, eps))
    torch.testing.assert_close(got, eps, atol=1e-5, rtol=1e-5)


def test_targets_written_out() -> None:
    x_0, eps = pair(4, 3)
    scales = Scales.at(ALPHA_BAR, T, 2)
    assert torch.equal(scales.target("eps", x_0, eps), eps)
    alpha_bar = torch.tensor(ALPHA_BAR[T.numpy()], dtype=torch.float32)[:, None]
    torch.testing.assert_close(scales.target("v", x_0, eps), alpha_bar.sqrt() * eps - (1 - alpha_bar).sqrt() * x_0)


def test_uniform_weight_is_one() -> None:
    scales = Scales.at(ALPHA_BAR, T, 2)
    assert scales.loss_weight("eps", "uniform") == scales.loss_weight("v", "uniform") == 1


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_min_snr_weight_written_out(prediction: Prediction) -> None:
    levels = torch.arange(1, 1001)
    weight = Scales.at(ALPHA_BAR, levels, 1).loss_weight(prediction, "min_snr")
    snr = ALPHA_BAR[1:] / (1 - ALPHA_BAR[1:])
    expected = np.minimum(snr, 5) / (snr if prediction == "eps" else snr + 1)
    np.testing.assert_allclose(weight, expected, rtol=1e-3)


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_min_snr_weights_the_error_of_x0_by_the_snr_clipped_at_five(prediction: Prediction) -> None:
    """For either prediction the weighted loss is min(SNR, 5) ||x0_hat - x_0||^2."""
    x_0, eps = pair(4, 3)
    scales = Scales.at(ALPHA_BAR, T, 2)
    x_t, target = scales.add_noise(x_0, eps), scales.target(prediction, x_0, eps)
    output = target + 0.1 * normal(4, 3, seed=3, dtype=torch.float32)
    x0_hat = x0_from_eps(scales, x_t, scales.eps_from_output(prediction, output, x_t))
    snr = torch.tensor(ALPHA_BAR / np.maximum(1 - ALPHA_BAR, 1e-9))[T, None].float()
    expected = snr.clamp(max=MIN_SNR_GAMMA) * (x0_hat - x_0).square()
    got = scales.loss_weight(prediction, "min_snr") * (output - target).square()
    torch.testing.assert_close(got, expected, rtol=2e-2, atol=1e-5)
    assert (snr > 5).any()  # the levels lie on both sides of the limit
    assert (snr < 5).any()


# ------------------------------------------------------------------ the process


@pytest.mark.parametrize("weighting", ["uniform", "min_snr"])
@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_loss_is_the_mean_of_weighted_squares(prediction: Prediction, weighting: Weighting) -> None:
    """Eq. 6, element by element in Python; errors from 0.03 to 3, so that no other power has the same mean."""
    process = DiffusionConfig(prediction=prediction).build()
    x_0, eps = pair(4, 3)
    scales = process.scales(T, 2)
    error = 0.01 * 3 ** torch.linspace(1, 5, 12).view(4, 3) * torch.tensor([1.0, -1.0, 1.0])
    output = scales.target(prediction, x_0, eps) + error
    total = 0.0
    for i, t in enumerate(T.tolist()):
        a = float(ALPHA_BAR[t])
        snr = a / (1 - a)
        weight = {"uniform": 1.0, "min_snr": min(snr, 5) / (snr if prediction == "eps" else snr + 1)}[weighting]
        for j in range(3):
            v = math.sqrt(a) * float(eps[i, j]) - math.sqrt(1 - a) * float(x_0[i, j])
            target = float(eps[i, j]) if prediction == "eps" else v
            total += weight * (float(output[i, j]) - target) ** 2 / 12
    assert process.loss(output, x_0, eps, scales, weighting).item() == pytest.approx(total, rel=1e-3)


def test_loss_is_uniform_by_default_and_float32_for_bfloat16() -> None:
    process, (x_0, eps) = DiffusionConfig().build(), pair(4, 3)
    scales = process.scales(T, 2)
    output = (eps + 0.1).bfloat16()
    expected = (output.float() - eps).square().mean()
    got = process.loss(output, x_0, eps, scales)
    assert got.dtype == torch.float32
    assert torch.equal(got, expected)


def test_process_of_settings() -> None:
    process = DiffusionConfig("cosine", 50, "v").build()
    assert isinstance(process, DiffusionProcess)
    assert (process.levels, process.prediction) == (50, "v")
    np.testing.assert_array_equal(process.alpha_bar, alpha_bar_of(DiffusionConfig("cosine", 50)))
    assert process.scales(50, 4).signal == pytest.approx(math.sqrt(process.alpha_bar[50]))
    for t in (0, 51):
        with pytest.raises(ConfigError, match=rf"t is {t}: must lie in 1\.\.50"):
            process.scales(t, 4)
