"""How well do images come back? Error and similarity of each image and its reconstruction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffae.errors import DataError

SMALLEST = 6
"""Sides of fewer pixels are refused: SSIM's window reaches 5 pixels beyond the border, by reflection."""


@dataclass(frozen=True)
class ReconstructionQuality:
    """One number per image, of images in [0, 1]."""

    mse: Float[Tensor, " b"]
    """Mean squared error."""
    psnr: Float[Tensor, " b"]
    """Peak signal-to-noise ratio in dB, -10 log10(mse); infinite for identical images."""
    ssim: Float[Tensor, " b"]
    """Structural similarity (Wang et al. 2004): Gaussian window of 11 x 11 pixels, sigma 1.5, K1 = 0.01, K2 = 0.03."""


@torch.inference_mode()
def reconstruction_quality(x: Float[Tensor, "b c h w"], y: Float[Tensor, "b c h w"]) -> ReconstructionQuality:
    """Compare images with their reconstructions, in float64.

    SSIM is torchmetrics' with `data_range=1.0`: the window is the same at every image size, borders are continued by
    reflection, and the mean is over every pixel and channel (other programs leave out the 5 outermost pixels, which
    at 32x32 would be half of the image).

    Args:
        x, y: images in [0, 1]; `diffae.data.images.to_unit` makes them of [-1, 1].
    Returns:
        float32, on the CPU.
    Raises:
        DataError: different shapes, values outside [0, 1], or a side below 6 pixels.
    """
    from torchmetrics.functional.image.ssim import structural_similarity_index_measure

    _check(x, y)
    x, y = x.detach().cpu().double(), y.detach().cpu().double()
    mse = (x - y).square().mean(dim=(1, 2, 3))
    ssim = structural_similarity_index_measure(x, y, data_range=1.0, reduction="none")
    assert isinstance(ssim, Tensor)  # a pair only when the whole map is asked for
    return ReconstructionQuality(mse.float(), (-10 * mse.log10()).float(), ssim.view(-1).float())


def _check(x: Tensor, y: Tensor) -> None:
    if x.shape != y.shape or x.dim() != 4 or len(x) == 0:
        rule = "must be the same (b, c, h, w), with at least one image"
        raise DataError(f"images have shapes {tuple(x.shape)} and {tuple(y.shape)}: they {rule}")
    if min(x.shape[-2:]) < SMALLEST:
        raise DataError(
            f"images are {x.shape[-2]} x {x.shape[-1]}: SSIM needs at least {SMALLEST} pixels; enlarge them"
        )
    for image in (x, y):
        low, high = (value.item() for value in image.aminmax())
        if not (low >= 0 and high <= 1):  # also false for NaN
            raise DataError(f"images span {low:.4g}..{high:.4g}: must lie in [0, 1]; use diffae.data.images.to_unit")
