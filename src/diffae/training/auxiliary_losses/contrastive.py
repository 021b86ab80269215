"""Telling images apart: a second loss on z_sem, beside that of Eq. 6 (docs/recipe.md).

That of SimCLR (Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020): of all
images of a batch, the one most like an image is to be the same image, cut out otherwise, mirrored and recoloured. It
acts on a projection of z_sem, so that z_sem itself may keep what a view changes: the decoder needs position and colour.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

TEMPERATURE = 0.2
"""Of the softmax over an image's likeness to the others of the batch."""

LEAST_AREA, ASPECT, RECOLOURING, GRAY = 0.5, 0.2, 0.4, 0.2
"""Of a view: least share of the image's area; half the most change of the aspect ratio's logarithm; most change of
brightness (of images in [-1, 1]), contrast and saturation (relative); how many of them are gray."""

NUMBERS = 9
"""Random numbers that make a view."""


def view(
    x_0: Float[Tensor, "b c h w"], numbers: Float[Tensor, "b 9"], *, mirrored: bool = True
) -> Float[Tensor, "b c h w"]:
    """Each image cut out at random and scaled back, mirrored, its brightness, contrast and saturation changed.

    Args:
        x_0: images (b, c, h, w) in [-1, 1].
        numbers: what decides, (b, 9), each evenly distributed in [0, 1).
        mirrored: whether every other image is mirrored.
    Returns:
        Images (b, c, h, w), hardly beyond [-1, 1].
    """
    area, aspect, left, top, mirror, brightness, contrast, saturation, gray = numbers.T
    side = (LEAST_AREA + (1 - LEAST_AREA) * area).sqrt()
    ratio = torch.exp(ASPECT * (2 * aspect - 1))
    width, height = (side * ratio).clamp(max=1), (side / ratio).clamp(max=1)
    x = _cut_out(x_0, torch.where(mirror < 0.5, -width, width) if mirrored else width, height, left, top)
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
    """A part of each image, in shares of its sides, scaled to the whole; a negative width mirrors."""
    zero = torch.zeros_like(width)
    across = torch.stack([width, zero, (2 * left - 1) * (1 - width.abs())], dim=1)
    down = torch.stack([zero, height, (2 * top - 1) * (1 - height)], dim=1)
    where = F.affine_grid(torch.stack([across, down], dim=1), list(x.shape), align_corners=False)
    return F.grid_sample(x, where, padding_mode="reflection", align_corners=False)


def contrastive_loss(a: Float[Tensor, "b d"], b: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """Eq. 1 of Chen et al. 2020, NT-Xent: the cross-entropy of finding each vector's partner among the 2b - 1 others.

    Args:
        a, b: two vectors of each image, (b, d), not zero.
    """
    with torch.autocast(a.device.type, enabled=False):  # in float32: bfloat16 tells near vectors badly apart
        vectors = F.normalize(torch.cat([a, b]).float(), dim=1)
        likeness = vectors @ vectors.T / TEMPERATURE
        itself = torch.eye(len(vectors), dtype=torch.bool, device=a.device)
        partner: Int[Tensor, " 2b"] = torch.arange(len(vectors), device=a.device).roll(len(a))
        return F.cross_entropy(likeness.masked_fill(itself, -torch.inf), partner)
