"""Which images is this model not made for? A score per image, and images made foreign (paper Appendix K)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy.stats import kstest
from torch import Tensor

from diffae.config import Sampling
from diffae.data.images import to_unit
from diffae.errors import DataError
from diffae.model import Code, DiffusionAutoencoder


def shifted(x: Float[Tensor, "n c h w"], generator: torch.Generator) -> dict[str, Float[Tensor, "n c h w"]]:
    """The images changed so that they belong to another distribution, by name; in [-1, 1]."""
    half = x.shape[-1] // 2
    corners = torch.randperm(4, generator=generator)
    while bool((corners == torch.arange(4)).all()):
        corners = torch.randperm(4, generator=generator)
    quarters = [x[..., i * half : (i + 1) * half, j * half : (j + 1) * half] for i in (0, 1) for j in (0, 1)]
    a, b, c, d = (quarters[int(place)] for place in corners)
    shuffled = torch.cat([torch.cat([a, b], dim=-1), torch.cat([c, d], dim=-1)], dim=-2)
    noise = torch.randn(x.shape, generator=generator)
    return {
        "upside down": x.flip(-2),
        "negative": -x,
        "quarters shuffled": F.pad(shuffled, (0, x.shape[-1] - 2 * half, 0, x.shape[-2] - 2 * half), "replicate"),
        "blurred": F.interpolate(F.avg_pool2d(x, 4), x.shape[-2:], mode="bilinear"),
        "noisy": (x + 0.4 * noise).clamp(-1, 1),
    }


def textures(count: int, channels: int, size: int, generator: torch.Generator) -> Float[Tensor, "n c h w"]:
    """Foreign images that need no file: smooth random colour fields under a random grating; in [-1, 1]."""
    coarse = torch.randn((count, channels, 3, 3), generator=generator)
    field = F.interpolate(coarse, (size, size), mode="bicubic")
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    angle, frequency, phase = (torch.rand((count, 1, 1, 1), generator=generator) for _ in range(3))
    along = torch.cos(angle * 2 * torch.pi) * x + torch.sin(angle * 2 * torch.pi) * y
    grating = torch.sin(2 * torch.pi * ((2 + 8 * frequency) * along + phase))
    return (0.5 * field + 0.6 * grating).clamp(-1, 1)


def scores(
    model: DiffusionAutoencoder,
    x_0: Float[Tensor, "n c h w"],
    *,
    generator: torch.Generator,
    sampling: Sampling | None = None,
    typical: Float[Tensor, "m d"] | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Float[np.ndarray, " n"]]:
    """How unusual each image is, by several measures; higher means less like the images of training.

    Args:
        model: with an encoder.
        x_0: images, in [-1, 1].
        generator: of the x_T that z_sem is decoded with.
        sampling: of encoding and decoding; explicit inversion is enough and much faster.
        typical: z_sem of training images, for the distance of z_sem from them.
    Returns:
        "error of z_sem alone": MSE of the image decoded from z_sem and random x_T, images in [0, 1];
        "x_T not normal": Kolmogorov-Smirnov distance of x_T's values from N(0, 1);
        "x_T correlated": correlation of neighbouring values of x_T, absolute, mean of both directions;
        "z_sem unusual": Mahalanobis distance of z_sem from `typical`, where that is given.
    """
    code = model.encode(x_0, sampling, progress=progress)
    assert code.z_sem is not None
    assert code.x_T is not None
    back = model.decode(z_sem=code.z_sem, generator=generator, sampling=sampling).cpu()
    error = (to_unit(back) - to_unit(x_0.cpu())).square().mean(dim=(1, 2, 3)).double().numpy()
    found = {"error of z_sem alone": error, **noise_scores(code)}
    if typical is not None:
        found["z_sem unusual"] = mahalanobis(code.z_sem.cpu(), typical.cpu())
    return found


def noise_scores(code: Code) -> dict[str, Float[np.ndarray, " n"]]:
    """How far the x_T of each image is from N(0, I): its values' distribution, and what neighbours have in common."""
    assert code.x_T is not None
    x_T = code.x_T.cpu().double()
    distance = np.array([kstest(row.numpy(), "norm").statistic for row in x_T.flatten(1)])
    return {"x_T not normal": distance, "x_T correlated": _neighbours(x_T).numpy()}


def _neighbours(x: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    x = x - x.mean(dim=(2, 3), keepdim=True)
    power = x.square().mean(dim=(1, 2, 3)).clamp(min=1e-12)
    across = (x[..., 1:] * x[..., :-1]).mean(dim=(1, 2, 3)) / power
    down = (x[..., 1:, :] * x[..., :-1, :]).mean(dim=(1, 2, 3)) / power
    return (across.abs() + down.abs()) / 2


def mahalanobis(z: Float[Tensor, "n d"], typical: Float[Tensor, "m d"]) -> Float[np.ndarray, " n"]:
    """Distance of each z from the mean of `typical`, in its standard deviations along its principal axes.

    The correlations are shrunk towards none (Ledoit and Wolf), so that m may be small.

    Raises:
        DataError: fewer than 2 typical codes.
    """
    from sklearn.covariance import LedoitWolf

    if len(typical) < 2:
        raise DataError(f"{len(typical)} typical codes: their covariance needs at least 2")
    mean, std = typical.double().mean(0), typical.double().std(0)
    typical_norm, z_norm = (((x.double() - mean) / std.clamp(min=1e-12)).numpy() for x in (typical, z))
    return np.sqrt(LedoitWolf().fit(typical_norm).mahalanobis(z_norm))
