"""Error and similarity of reconstructions agree with their definitions."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from diffae.errors import DataError
from diffae.evaluation.statistics import Estimate
from diffae.evaluation.tasks import reconstruction
from diffae.evaluation.tasks.reconstruction import Row, reconstruction_quality


def pair(size: int = 32, channels: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((4, channels, size, size), generator=generator)
    return x, (x + 0.1 * torch.randn(x.shape, generator=generator)).clamp(0, 1)


def ssim_by_definition(x: np.ndarray, y: np.ndarray) -> float:
    """Wang et al. 2004, Eq. 13, of two planes: a Gaussian window of 11 x 11, mirrored borders, mean over all pixels."""
    window = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2

    def blur(plane: np.ndarray) -> np.ndarray:
        patches = np.lib.stride_tricks.sliding_window_view(np.pad(plane, 5, mode="reflect"), (11, 11))
        return np.einsum("ijkl,kl->ij", patches, window)

    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    return float((((2 * mx * my + c1) * (2 * cov + c2)) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean())


def test_mse_and_psnr_of_a_known_error() -> None:
    x = torch.full((2, 1, 8, 8), 0.5)
    y = x + torch.tensor([0.1, 0.01]).view(2, 1, 1, 1)
    quality = reconstruction_quality(x, y)
    torch.testing.assert_close(quality.mse, torch.tensor([1e-2, 1e-4]), rtol=1e-5, atol=0)
    torch.testing.assert_close(quality.psnr, torch.tensor([20.0, 40.0]), rtol=1e-5, atol=0)


def test_identical_images() -> None:
    x, _ = pair()
    quality = reconstruction_quality(x, x)
    assert torch.equal(quality.mse, torch.zeros(4))
    assert bool(torch.isinf(quality.psnr).all())
    torch.testing.assert_close(quality.ssim, torch.ones(4))


@pytest.mark.parametrize(("size", "channels"), [(6, 1), (16, 2), (32, 3)])
def test_ssim_follows_its_definition_at_every_size(size: int, channels: int) -> None:
    x, y = pair(size, channels)
    expected = [
        np.mean([ssim_by_definition(a, b) for a, b in zip(p.double().numpy(), q.double().numpy(), strict=True)])
        for p, q in zip(x, y, strict=True)
    ]
    torch.testing.assert_close(reconstruction_quality(x, y).ssim, torch.tensor(expected).float(), rtol=0, atol=1e-6)


def test_one_image_and_its_number_in_a_batch_are_the_same() -> None:
    x, y = pair()
    torch.testing.assert_close(reconstruction_quality(x[2:3], y[2:3]).ssim, reconstruction_quality(x, y).ssim[2:3])


def test_images_that_cannot_be_compared_are_refused() -> None:
    x, y = pair()
    with pytest.raises(DataError, match="must be the same"):
        reconstruction_quality(x, y[:, :1])
    with pytest.raises(DataError, match="at least 6 pixels"):
        reconstruction_quality(x[..., :5], y[..., :5])
    with pytest.raises(DataError, match=r"must lie in \[0, 1\]"):
        reconstruction_quality(x, y * 2 - 1)
    with pytest.raises(DataError, match=r"must lie in \[0, 1\]"):
        reconstruction_quality(x, y * torch.nan)


def test_torchvision_is_not_needed() -> None:
    reconstruction_quality(*pair())
    assert "torchvision" not in sys.modules


def row(name: str, steps: int, *errors: float) -> Row:
    one = Estimate(float(np.mean(errors)), 0.0, 9.0, len(errors))
    return Row(name, steps, 1, 1.0, one, one, one, None, np.array(errors))


def test_reconstruction_must_be_better_by_more_than_chance() -> None:
    rows = [row(f"{whose}: x_T explicit", steps, *errors) for whose, steps, errors in (
        ("ours", 10, (4.0, 4.1)), ("ours", 20, (0.9, 0.8)), ("ours", 100, (0.1, 0.2)),
        ("DDIM", 10, (3.0, 3.1)), ("DDIM", 20, (2.0, 0.1)), ("DDIM", 100, (0.5, 0.6)),
    )]  # fmt: skip
    (claim,) = reconstruction._claims(rows, "explicit")
    assert claim.verdict == "partly shown"
    assert "not significantly better at T = 10 and 20;" in claim.reason
    assert "DDIM's error at T = 100 is first beaten at T = 100" in claim.reason
