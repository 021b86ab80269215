"""How smooth is the way from one image to another? Perceptual path length (paper Section 5.2, Appendix F, Eq. 10)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffae.config import Sampling
from diffae.diffusion.interpolation import lerp, slerp
from diffae.errors import DataError, require
from diffae.model import Code, DiffusionAutoencoder

EPSILON = 1e-4
"""The paper's step along the path."""

Distance = Callable[[Tensor, Tensor], np.ndarray]
"""Of each pair of images (n, c, h, w) in [-1, 1]; it must grow as the square of a small difference, as LPIPS does."""


def squared_error(a: Float[Tensor, "n c h w"], b: Float[Tensor, "n c h w"]) -> Float[np.ndarray, " n"]:
    """Mean squared difference of images in [0, 1]: the distance to use where there is no feature network."""
    return ((a.double() - b.double()) / 2).square().mean(dim=(1, 2, 3)).cpu().numpy()  # [-1, 1] => [0, 1] halves it


def path_length(
    model: DiffusionAutoencoder,
    a: Code,
    b: Code,
    distance: Distance,
    *,
    generator: torch.Generator,
    sampling: Sampling | None = None,
    epsilon: float = EPSILON,
    progress: Callable[[int], None] | None = None,
) -> Float[np.ndarray, " n"]:
    """Eq. 10 for each pair of codes: distance of the images at t and t + epsilon, over epsilon squared; t ~ U(0, 1).

    z_sem goes along the straight line, x_T along the great arc. Of a model without an encoder (the DDIM baseline) x_T
    alone does. The mean over pairs is the perceptual path length.

    Args:
        model: decodes.
        a, b: codes of n images each, with x_T; row i of one goes with row i of the other.
        distance: of pairs of images.
        generator: of t, on the CPU.
    Raises:
        DataError: codes that differ in number or have no x_T.
        ConfigError: an epsilon outside (0, 1).
    """
    require(0 < epsilon < 1, "epsilon", epsilon, "must lie in (0, 1)")
    if len(a) != len(b) or a.x_T is None or b.x_T is None:
        raise DataError(f"codes of {len(a)} and {len(b)} images: path length takes as many of each, with their x_T")
    start = torch.rand(len(a), generator=generator, dtype=torch.float64) * (1 - epsilon)
    lengths = []
    for rows in torch.arange(len(a)).split(32):
        ends = [_on_the_way(a, b, rows, start[rows] + step) for step in (0.0, epsilon)]
        x, y = (model.decode(code, sampling=sampling).cpu() for code in ends)
        lengths.append(distance(x, y) / epsilon**2)
        if progress:
            progress(int(rows[-1]) + 1)
    return np.concatenate(lengths)


def _on_the_way(a: Code, b: Code, rows: Tensor, weight: Float[Tensor, " n"]) -> Code:
    assert a.x_T is not None
    assert b.x_T is not None
    pairs = list(zip(rows.tolist(), weight.split(1), strict=True))
    # weights in float64: t + epsilon must differ from t by epsilon, not by epsilon rounded
    x_T = torch.cat([slerp(a.x_T[i : i + 1].double(), b.x_T[i : i + 1].double(), w) for i, w in pairs]).float()
    if a.z_sem is None or b.z_sem is None:
        return Code(None, x_T)
    z_sem = torch.cat([lerp(a.z_sem[i : i + 1].double(), b.z_sem[i : i + 1].double(), w) for i, w in pairs])
    return Code(z_sem.float(), x_T)
