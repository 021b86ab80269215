"""HOG loss: a linear map of z_sem predicts histograms of oriented gradients.

Histograms of oriented gradients (Dalal & Triggs, "Histograms of oriented gradients for human detection", CVPR 2005)
describe in which directions the brightness of each part of an image changes, independent of brightness and contrast.
They hold what the largest principal components of the pixels leave out. Wei et al., "Masked feature prediction for
self-supervised visual pre-training" (CVPR 2022), found few better targets.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diffae.config import ModelConfig
from diffae.training.auxiliary_losses.base import AuxiliaryBatch, AuxiliaryLoss, prediction_error

BINS = 9
"""Direction bins over half a turn: dark to light and light to dark are one direction."""

LEAST_CELL, MOST_CELLS = 4, 8
"""Least side of a cell in pixels; most cells along a side of the image."""

MOST_SIDE = 64
"""Larger images are averaged down to this side first: their cells are coarse, and finer edges cost more than a step of
the network."""

LEAST_SIDE = 16
"""The image is halved, for coarser edges, down to this side."""

FLAT = 0.02
"""Added to the norm of the gradients around a cell, of an image in [-1, 1], so that noise is not amplified."""

VARIANCE = 0.05
"""About the variance of HOG over photographs: an error divided by it is about 1 where nothing is predicted."""


@torch.no_grad()
def oriented_gradients(x_0: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
    """Histograms of oriented gradients, of the image and of its halves, quarters... down to a side of 16 pixels.

    Each has at most 8 x 8 cells, at least 4 pixels wide, and 9 directions, normalised by the gradients of the cell and
    its neighbours. The square root gives rare directions more weight (Arandjelovic & Zisserman, "Three things everyone
    should know to improve object retrieval", CVPR 2012).

    Args:
        x_0: images (b, c, h, w) in [-1, 1].
    Returns:
        Non-negative, seldom above 1, (b, d) in float32; d is 720 for 32 x 32 images and 1296 for
        64 x 64 and larger ones.
    """
    x, found = x_0.float(), []
    while min(x.shape[2:]) > MOST_SIDE:
        x = F.avg_pool2d(x, 2)
    while not found or min(x.shape[2:]) >= LEAST_SIDE:
        cell = max(LEAST_CELL, x.shape[-1] // MOST_CELLS)
        found.append(_histograms(x, cell).sqrt().flatten(1))
        x = F.avg_pool2d(x, 2)
    return torch.cat(found, dim=1)


def _histograms(x: Float[Tensor, "b c h w"], cell: int) -> Float[Tensor, "b 9 rows columns"]:
    across, down = _strongest_gradient(x)
    strength = torch.hypot(across, down)
    direction = (torch.atan2(down, across) * (BINS / torch.pi)).remainder(BINS)
    bins = torch.arange(BINS, device=x.device).view(1, BINS, 1, 1)
    apart = (direction - bins).abs()  # or BINS minus that, the other way round
    share = torch.maximum(1 - apart, apart - (BINS - 1)).clamp_(min=0)  # of the two bins nearest to a gradient
    h = F.avg_pool2d(share.mul_(strength), cell)
    energy = h.square().sum(dim=1, keepdim=True)
    around = F.avg_pool2d(F.pad(energy, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return h / (around.sqrt() + FLAT)


def _strongest_gradient(x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b 1 h w"], Float[Tensor, "b 1 h w"]]:
    """Horizontal and vertical differences, at each position of the channel where they are largest."""
    beyond = F.pad(x, (1, 1, 1, 1), mode="replicate")
    across = beyond[:, :, 1:-1, 2:] - beyond[:, :, 1:-1, :-2]
    down = beyond[:, :, 2:, 1:-1] - beyond[:, :, :-2, 1:-1]
    channel = (across.square() + down.square()).max(dim=1, keepdim=True).indices  # argmax takes ten times as long
    return across.gather(1, channel), down.gather(1, channel)


class HOGLoss(AuxiliaryLoss):
    """Mean squared error of a linear prediction of HOG from z_sem, relative to their variance.

    The second view of an image, where there is one, must predict the same as the image.
    """

    def __init__(self, model: ModelConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(model.z_sem_channels, oriented_gradients(torch.zeros(1, *model.image_shape)).shape[1])

    def forward(self, z_sem: Float[Tensor, "n d"], batch: AuxiliaryBatch) -> Float[Tensor, ""]:
        return prediction_error(self.linear(z_sem), oriented_gradients(batch.images)) / VARIANCE
