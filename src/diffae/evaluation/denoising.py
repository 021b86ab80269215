"""How early does the decoder know the image? The error of x0_hat along the path (paper Section 5.5, Fig. 6)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffae.config import Sampling
from diffae.data.images import to_unit
from diffae.device import parts
from diffae.errors import DataError
from diffae.latent.codes import Code
from diffae.model import DiffusionAutoencoder


@dataclass(frozen=True)
class DenoisingPath:
    """What the decoder believed at each level on the way down."""

    levels: tuple[int, ...]
    """t, from T to 1."""
    mse: Float[Tensor, "n steps"]
    """Of x0_hat, clamped, against the image; images in [0, 1]."""
    shown: Float[Tensor, "shown steps c h w"]
    """x0_hat of the first images, in [-1, 1]."""


def denoising_path(
    model: DiffusionAutoencoder,
    x_0: Float[Tensor, "n c h w"],
    code: Code,
    sampling: Sampling | None = None,
    shown: int = 2,
) -> DenoisingPath:
    """Decode codes and compare x0_hat at every level with the images they came from.

    Args:
        model: with or without an encoder (the DDIM baseline).
        x_0: the images, in [-1, 1].
        code: their codes, with x_T as `model.encode` finds it with the same sampling.
        shown: images of which x0_hat is kept.
    Raises:
        DataError: codes of another number of images.
    """
    if len(code) != len(x_0):
        raise DataError(f"codes of {len(code)} images for {len(x_0)} images: give the code of each")
    errors, kept, levels = [], [], []
    for rows in parts(len(x_0)):
        seen: list[tuple[int, Tensor]] = []
        model.decode(code[rows], sampling=sampling, watch=lambda t, x, seen=seen: seen.append((t, x.cpu())))
        target = to_unit(x_0[rows].cpu())
        errors.append(torch.stack([(to_unit(x) - target).square().mean(dim=(1, 2, 3)) for _, x in seen], dim=1))
        kept = kept or [x[:shown] for _, x in seen]
        levels = [t for t, _ in seen]
    return DenoisingPath(tuple(levels), torch.cat(errors), torch.stack(kept, dim=1))
