"""Unsupervised directions of z_sem: those of largest variance, and those with the largest visible effect.

A direction is a vector in the units of z_sem, with the length of one standard deviation of the images along it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from diffae.config import Sampling
from diffae.errors import ConfigError, DataError
from diffae.latent.codes import Code

SPANNED = 32
"""Principal directions that `most_visible` combines: each costs two decoded images per code."""


class Decodes(Protocol):
    """What `most_visible` needs of a model."""

    def decode(self, code: Code, *, sampling: Sampling | None = None) -> Tensor:
        """Images (b, c, h, w) of codes."""
        ...


@dataclass(frozen=True)
class Directions:
    """Directions in descending order."""

    vectors: Float64[np.ndarray, "k d"]
    """Steps of one standard deviation, in the units of z_sem."""
    shares: Float64[np.ndarray, " k"]
    """Fraction of all variance, or of all visible change, of each."""

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: slice) -> Directions:
        return Directions(self.vectors[rows], self.shares[rows])


def with_z_sem(code: Code, z_sem: Float[Tensor, "k d"]) -> Code:
    """The code of one image with its z_sem replaced by each of several."""
    return replace(code[torch.zeros(len(z_sem), dtype=torch.long)], z_sem=z_sem)


def principal_directions(z_sem: Float[np.ndarray, "n d"], count: int) -> Directions:
    """Principal components of z_norm (z_sem with zero mean and unit variance).

    Raises:
        ConfigError: a count outside 1..d.
        DataError: not more images than directions.
    """
    n, d = z_sem.shape
    if not 1 <= count <= d:
        raise ConfigError(f"pca is {count}: must lie in 1..{d}, the size of z_sem")
    if n <= count:
        raise DataError(f"{n} images: {count} principal directions need at least {count + 1}; add images or ask fewer")
    std = z_sem.std(axis=0, dtype=np.float64)
    z_norm = (z_sem - z_sem.mean(axis=0, dtype=np.float64)) / np.where(std > 0, std, 1.0)
    variances, vectors = np.linalg.eigh(z_norm.T @ z_norm / n)  # ascending
    variances, vectors = np.maximum(variances[::-1], 0), vectors.T[::-1]
    steps = vectors * np.sqrt(variances)[:, None] * std
    return Directions(steps[:count], variances[:count] / variances.sum())


@torch.no_grad()
def most_visible(
    model: Decodes,
    code: Code,
    within: Directions,
    sampling: Sampling | None = None,
    progress: Callable[[int], None] | None = None,
) -> Directions:
    """The directions within a span whose steps change the decoded image most.

    Let D be the change of the image per step along each of the given directions (central difference over one standard
    deviation to both sides, at the same x_T). The result are the eigenvectors of the mean of D'D over the codes.

    Args:
        model: decodes.
        code: z_sem and x_T of a few images.
        within: directions that span the search space.
        sampling: how to decode.
        progress: called with the number of codes done so far.
    """
    assert code.z_sem is not None
    steps = torch.from_numpy(within.vectors).to(code.z_sem)
    total = np.zeros((len(within), len(within)))
    for row in range(len(code)):
        both_sides = torch.cat([code.z_sem[row] + steps, code.z_sem[row] - steps])
        x = model.decode(with_z_sem(code[row], both_sides), sampling=sampling)
        change = ((x[: len(steps)] - x[len(steps) :]) / 2).flatten(1).cpu().double().numpy()
        total += change @ change.T
        if progress:
            progress(row + 1)
    changes, mixtures = np.linalg.eigh(total)  # ascending
    return Directions(mixtures.T[::-1] @ within.vectors, changes[::-1] / changes.sum())
