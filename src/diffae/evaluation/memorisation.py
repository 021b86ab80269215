"""Are samples new? The nearest training images of samples, beside those of real images held out (paper Appendix C)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffae.errors import DataError

NEIGHBOURS = 50
"""Nearest training images that are looked at: how near is the first, against the others?"""
SIGNIFICANT = 0.01
"""A p-value below this, after correction for the number of measures, counts as a sign of copying."""


@dataclass(frozen=True)
class Nearest:
    """The nearest training images of n images, nearest first."""

    rows: Int[np.ndarray, "n k"]
    """Positions in the training set."""
    distances: Float[np.ndarray, "n k"]
    """Mean squared differences."""

    @property
    def relative(self) -> Float[np.ndarray, " n"]:
        """Distance of the nearest over the mean of the others: near 1 among equals, near 0 for a copy.

        Smooth images are nearer to everything than sharp ones; the quotient does not mind (as in Carlini et al.,
        "Extracting training data from diffusion models", 2023).
        """
        others = self.distances[:, 1:].mean(axis=1)
        return self.distances[:, 0] / np.maximum(others, np.finfo(np.float32).tiny)


@torch.no_grad()
def nearest(views: Float[Tensor, "v n p"], training: Iterable[Float[Tensor, "m p"]], k: int = NEIGHBOURS) -> Nearest:
    """The k training vectors with the smallest mean squared difference to each of n vectors.

    Args:
        views: what counts as the same image, for instance it and its mirror image; the nearer one is taken.
        training: the training vectors in parts, in order.

    Raises:
        DataError: no training vectors.
    """
    distances = views.new_zeros(views.shape[1], 0)
    rows = torch.zeros(views.shape[1], 0, dtype=torch.int64, device=views.device)
    start = 0
    for part in training:
        part = part.to(views)
        found = torch.stack([torch.cdist(view, part, compute_mode="use_mm_for_euclid_dist") for view in views])
        found = found.amin(dim=0).square() / part.shape[1]
        here = torch.arange(start, start + len(part), device=rows.device).expand(len(found), -1)
        distances, rows = torch.cat([distances, found], dim=1), torch.cat([rows, here], dim=1)
        distances, order = distances.topk(min(k, distances.shape[1]), largest=False)
        rows, start = rows.gather(1, order), start + len(part)
    if start < 2:
        raise DataError(f"{start} training images are too few to compare with: at least 2 are needed")
    return Nearest(rows.cpu().numpy(), distances.double().cpu().numpy())


@dataclass(frozen=True)
class Comparison:
    """Samples against held-out images, by one measure of distance."""

    samples: Nearest
    held_out: Nearest

    @classmethod
    def of(
        cls,
        samples: Float[Tensor, "n c h w"],
        held_out: Float[Tensor, "m c h w"],
        vectors: Callable[[Tensor], Tensor],
        training: Iterable[Float[Tensor, "k p"]],
        *,
        mirror: bool = True,
    ) -> Comparison:
        """Both beside the training set, in one pass over it.

        Args:
            samples, held_out: images in [-1, 1].
            vectors: what is compared: of images (b, c, h, w), vectors (b, p).
            training: those of the training images, in parts, in order.
            mirror: whether an image counts as the same as its mirror image.
        """
        both = torch.cat([samples, held_out])
        views = (both, both.flip(-1)) if mirror else (both,)
        found = nearest(torch.stack([vectors(view) for view in views]), training)
        halves = (slice(len(samples)), slice(len(samples), None))
        return cls(*(Nearest(found.rows[half], found.distances[half]) for half in halves))

    @property
    def p_value(self) -> float:
        """Mann-Whitney U test, one-sided: how likely are relative distances as small as the samples', were they new?

        The data-copying test of Meehan et al. ("A non-parametric test to detect data-copying in generative models",
        2020), on relative distances.
        """
        from scipy.stats import mannwhitneyu

        return float(mannwhitneyu(self.samples.relative, self.held_out.relative, alternative="less").pvalue)

    def noticed(self, measures: int) -> int:
        """How many of the samples would have to be copies, at relative distance 0, for the test to find copying.

        Args:
            measures: how many measures the test is corrected for.
        """
        from scipy.stats import mannwhitneyu

        samples = np.sort(self.samples.relative)[::-1]
        for copies in range(1, len(samples) + 1):
            planted = np.where(np.arange(len(samples)) < copies, 0.0, samples)  # in place of the least near
            p = mannwhitneyu(planted, self.held_out.relative, alternative="less").pvalue
            if p * measures < SIGNIFICANT:
                return copies
        return len(samples) + 1

    @property
    def nearer(self) -> float:
        """Share of the pairs of a sample and a held-out image in which the sample is the nearer one; 0.5 when alike."""
        below = self.samples.relative[:, None] < self.held_out.relative
        equal = self.samples.relative[:, None] == self.held_out.relative
        return float(below.mean() + equal.mean() / 2)

    @property
    def closest(self) -> int:
        """Samples nearer, relatively, than every held-out image."""
        return int((self.samples.relative < self.held_out.relative.min()).sum())


def copying(comparisons: Iterable[Comparison]) -> float:
    """The smallest p-value of several measures, times their number (Bonferroni), at most 1."""
    values = [comparison.p_value for comparison in comparisons]
    return min(1.0, min(values) * len(values))
