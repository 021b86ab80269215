"""Can generated images be told from real ones? A convolutional detector, and one of frequencies alone (App. L)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from rich.console import Console
from torch import Tensor, nn

from diffae.config import TrainingConfig
from diffae.data.images import to_unit
from diffae.errors import DataError
from diffae.networks.layers import ResBlock, group_norm
from diffae.training.arrays import train_on_arrays

LEAST = 8
"""Fewer images of either kind than this are refused."""


Detector = Callable[[Float[Tensor, "n c h w"]], Float[np.ndarray, " n"]]
"""Images in [-1, 1] => the logit of each being generated."""


class DetectorNetwork(nn.Module):
    """Image (b, c, h, w) -> logit (b,): residual blocks, halved until 4 pixels are left, then their mean."""

    def __init__(self, channels: int, size: int, width: int = 32) -> None:
        super().__init__()
        blocks: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1)]
        while size > 4:
            blocks += [
                ResBlock(width, min(2 * width, 128)),
                ResBlock(min(2 * width, 128), min(2 * width, 128), how="down"),
            ]
            width, size = min(2 * width, 128), size // 2
        self.blocks = nn.Sequential(*blocks, group_norm(width), nn.SiLU())
        self.output = nn.Linear(width, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        return self.output(self.blocks(x).mean(dim=(2, 3))).squeeze(1)


def quantised(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Images in [-1, 1] as 8-bit files would hold them: else real ones were told by their rounding."""
    return (to_unit(x.cpu()) * 255).round() / 127.5 - 1


def convolutional_detector(
    real: Float[Tensor, "n c h w"],
    fake: Float[Tensor, "m c h w"],
    config: TrainingConfig,
    folder: Path,
    key: str,
    console: Console | None = None,
) -> Detector:
    """A small convolutional network trained to tell them apart; both are rounded to 8 bits first.

    Args:
        real, fake: images in [-1, 1].
        config: length and learning rate.
        folder, key: where its weights are kept, and what they depend on; see `diffae.training.arrays`.
    Raises:
        DataError: too few images.
    """
    x, y = _labelled(real, fake)
    network = train_on_arrays(
        lambda: DetectorNetwork(x.shape[1], x.shape[-1]), [x, y], _loss, config, folder, key, console
    )

    @torch.no_grad()
    def detect(images: Tensor) -> np.ndarray:
        return torch.cat([network(part) for part in quantised(images).split(64)]).numpy()

    return detect


def frequency_detector(real: Float[Tensor, "n c h w"], fake: Float[Tensor, "m c h w"]) -> Detector:
    """Logistic regression on log power spectra: it sees how much there is of each frequency, not where or what.

    Raises:
        DataError: too few images.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = _labelled(real, fake)
    weights = "balanced"
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight=weights, max_iter=5000))
    fitted.fit(log_spectrum(x), y.numpy())
    return lambda images: fitted.decision_function(log_spectrum(quantised(images)))


def log_spectrum(x: Float[Tensor, "n c h w"]) -> Float[np.ndarray, "n f"]:
    """Logarithm of the power at each radius of the two-dimensional spectrum, each channel's (azimuthal mean)."""
    power = torch.fft.fftshift(torch.fft.fft2(x.double()).abs().square(), dim=(-2, -1))
    height, width = x.shape[-2:]
    y, z = torch.meshgrid(torch.arange(height) - height // 2, torch.arange(width) - width // 2, indexing="ij")
    radius = (y.square() + z.square()).sqrt().round().long().flatten()
    counts = torch.bincount(radius).double()
    sums = torch.zeros(*x.shape[:2], len(counts), dtype=torch.float64).index_add(2, radius, power.flatten(2))
    return (sums / counts + 1e-8).log().flatten(1).numpy()


def accuracy(
    detect: Detector, real: Float[Tensor, "n c h w"], fake: Float[Tensor, "m c h w"]
) -> Float[np.ndarray, " n_plus_m"]:
    """1 where an image is told rightly, 0 where not; weigh kinds alike by giving as many of each."""
    return np.concatenate([detect(real) < 0, detect(fake) >= 0]).astype(np.float64)


def _labelled(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    if min(len(real), len(fake)) < LEAST:
        raise DataError(f"{len(real)} real and {len(fake)} generated images: a detector needs at least {LEAST} of each")
    return quantised(torch.cat([real.cpu(), fake.cpu()])), torch.cat([torch.zeros(len(real)), torch.ones(len(fake))])


def _loss(network: Callable[[Tensor], Tensor], batch) -> Tensor:
    x, y = batch
    return F.binary_cross_entropy_with_logits(network(x), y)
