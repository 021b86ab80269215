"""Contrastive loss on z_sem: SimCLR (Chen et al., "A simple framework for contrastive learning of visual
representations", ICML 2020).

Each image must be more similar to a cropped, mirrored and recoloured view of itself than to the other images of the
batch. The loss acts on a projection of z_sem, so that z_sem may keep what a view changes: the decoder needs position
and colour.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffae.config import ModelConfig
from diffae.distributed import world_size
from diffae.training.auxiliary_losses.base import AuxiliaryBatch, AuxiliaryLoss

TEMPERATURE = 0.2
"""Temperature of the softmax over similarities."""

LEAST_AREA, ASPECT, RECOLOURING, GRAY = 0.5, 0.2, 0.4, 0.2
"""Of a view: least fraction of the image's area; largest change of half the log aspect ratio; largest change of
brightness (of images in [-1, 1]), contrast and saturation (relative); fraction of views that are grey."""

NUMBERS = 9
"""Random numbers that one view needs."""


def view(
    x_0: Float[Tensor, "b c h w"], numbers: Float[Tensor, "b 9"], *, mirrored: bool = True, recoloured: bool = True
) -> Float[Tensor, "b c h w"]:
    """A random view of each image: cropped and resized, mirrored, with other brightness, contrast and saturation.

    Args:
        x_0: images (b, c, h, w) in [-1, 1].
        numbers: uniform random numbers in [0, 1), (b, 9), which determine the views.
        mirrored: whether images are mirrored with probability 1/2.
        recoloured: whether brightness, contrast and saturation change; not in latents, which have no colours.
    Returns:
        Images (b, c, h, w), about in [-1, 1].
    """
    area, aspect, left, top, mirror, brightness, contrast, saturation, gray = numbers.T
    side = (LEAST_AREA + (1 - LEAST_AREA) * area).sqrt()
    ratio = torch.exp(ASPECT * (2 * aspect - 1))
    width, height = (side * ratio).clamp(max=1), (side / ratio).clamp(max=1)
    x = _cut_out(x_0, torch.where(mirror < 0.5, -width, width) if mirrored else width, height, left, top)
    if not recoloured:
        return x
    change = 1 + RECOLOURING * (2 * torch.stack([brightness, contrast, saturation]) - 1)
    brightness, contrast, saturation = change[:, :, None, None, None]
    saturation = torch.where(gray[:, None, None, None] < GRAY, 0.0, saturation)
    luminance = x.mean(dim=1, keepdim=True)
    x = luminance + saturation * (x - luminance)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return mean + contrast * (x - mean) + (brightness - 1)


def _cut_out(
    x: Float[Tensor, "b c h w"],
    width: Float[Tensor, " b"],
    height: Float[Tensor, " b"],
    left: Float[Tensor, " b"],
    top: Float[Tensor, " b"],
) -> Float[Tensor, "b c h w"]:
    """Crop each image to fractions of its sides and resize to the whole; a negative width mirrors."""
    zero = torch.zeros_like(width)
    across = torch.stack([width, zero, (2 * left - 1) * (1 - width.abs())], dim=1)
    down = torch.stack([zero, height, (2 * top - 1) * (1 - height)], dim=1)
    where = F.affine_grid(torch.stack([across, down], dim=1), list(x.shape), align_corners=False)
    return F.grid_sample(x, where, padding_mode="reflection", align_corners=False)


def contrastive_loss(a: Float[Tensor, "b d"], b: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """NT-Xent (Chen et al. 2020, Eq. 1): cross-entropy of finding each vector's partner among the 2b - 1 others.

    Args:
        a, b: two vectors of each image, (b, d), not zero.
    """
    with torch.autocast(a.device.type, enabled=False):  # float32: bfloat16 cannot resolve nearby vectors
        vectors = F.normalize(torch.cat([a, b]).float(), dim=1)
        similarity = vectors @ vectors.T / TEMPERATURE
        itself = torch.eye(len(vectors), dtype=torch.bool, device=a.device)
        partner: Int[Tensor, " 2b"] = torch.arange(len(vectors), device=a.device).roll(len(a))
        return F.cross_entropy(similarity.masked_fill(itself, -torch.inf), partner)


class _Gathered(torch.autograd.Function):
    """The vectors of all processes, (p * b, d).

    Every process computes the loss of the whole batch, so its gradient with respect to its own vectors is complete, and
    nothing is sent in the backward pass, where it would have to be ordered with the reduction of gradients. Processes
    then average their gradients of weights where they should add them: the gradient is multiplied by their number.
    """

    @staticmethod
    def forward(ctx: Any, vectors: Float[Tensor, "b d"]) -> Float[Tensor, "p*b d"]:
        parts = [torch.empty_like(vectors) for _ in range(world_size())]
        torch.distributed.all_gather(parts, vectors.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Float[Tensor, "p*b d"]) -> Float[Tensor, "b d"]:
        processes = world_size()
        return gradients[0].chunk(processes)[torch.distributed.get_rank()] * processes


class ContrastiveLoss(AuxiliaryLoss):
    """`contrastive_loss` between a projection of z_sem of each image and of its second view.

    Args:
        model: with an encoder.
        gather: compare the images of all processes, as one process would; otherwise each compares its own.
    """

    needs_view = True

    def __init__(self, model: ModelConfig, *, gather: bool = True) -> None:
        super().__init__()
        self.gather = gather
        d = model.z_sem_channels
        self.projection = nn.Sequential(nn.Linear(d, 2 * d), nn.SiLU(), nn.Linear(2 * d, max(d // 2, 1)))

    def forward(self, z_sem: Float[Tensor, "n d"], batch: AuxiliaryBatch) -> Float[Tensor, ""]:
        a, b = self.projection(z_sem).chunk(2)
        if self.gather and world_size() > 1:
            a, b = _Gathered.apply(torch.cat([a, b], dim=1)).chunk(2, dim=1)  # pyright: ignore[reportAttributeAccessIssue]
        return contrastive_loss(a, b)
