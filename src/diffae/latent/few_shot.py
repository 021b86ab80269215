"""Few-shot conditional sampling: rejection of the prior's samples by a latent classifier (paper Section 5.6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffae.config import PRIOR_STEPS
from diffae.errors import DataError
from diffae.latent.prior import LatentPrior
from diffae.latent.probes import LEAST_OF_CLASS, fit_plane

DRAWN_AT_ONCE = 512
RAREST = 1e-3
"""Sampling stops when a class is, with 95 % confidence, rarer than this among the prior's samples."""


class LatentClassifier:
    """p(c | z_sem): logistic regression on normalised z_sem, with classes weighted equally.

    With negatives it is the paper's binary classifier, with unlabelled codes in their place the positive-unlabelled
    one: weighting the few positives like the many unlabelled is equivalent to oversampling them.

    Args:
        prior: whose samples will be classified; it normalises z_sem.
    """

    def __init__(self, prior: LatentPrior) -> None:
        self.prior = prior

    def fit(self, like: Float[Tensor, "n d"], others: Float[Tensor, "m d"]) -> LatentClassifier:
        """Fit to z_sem of examples, and of images that are not like them or are unlabelled.

        Sets `plane_`, and `score_`, the AUROC on a fifth of the examples of a classifier fitted without it.

        Raises:
            DataError: fewer than 5 of either.
        """
        for what, codes in (("positive examples", like), ("images to compare them with", others)):
            if len(codes) < LEAST_OF_CLASS:
                raise DataError(f"{len(codes)} {what} are too few: give at least {LEAST_OF_CLASS}")
        z_norm = self._normalised(torch.cat([like, others.to(like.device)]))
        y = np.repeat([1.0, 0.0], [len(like), len(others)])
        self.plane_, self.score_ = fit_plane(z_norm, y, binary=True)
        return self

    def probability(self, z_sem: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """p(c | z_sem) for classes equally frequent, float64 on the CPU."""
        from scipy.special import expit

        return torch.from_numpy(expit(self.plane_.read(self._normalised(z_sem))))

    def _normalised(self, z_sem: Tensor) -> Float[np.ndarray, "b d"]:
        return self.prior.normalise(z_sem).cpu().double().numpy()


@dataclass(frozen=True)
class Accepted:
    """Samples of the prior that a classifier accepted."""

    z_sem: Float[Tensor, "count d"]
    kept: int
    """Number accepted in all, including those beyond `count`."""
    drawn: int
    """Number drawn."""


def sample_like(
    prior: LatentPrior,
    classifier: LatentClassifier,
    count: int,
    *,
    steps: int = PRIOR_STEPS,
    truncation: float = 1.0,
    generator: torch.Generator | None = None,
    progress: Callable[[int], None] | None = None,
) -> Accepted:
    """z_sem of a class by rejection: samples with p = p(c | z_sem) >= 1/2 are accepted with probability p.

    Args:
        prior, steps, truncation, generator: see `LatentPrior.sample`; the generator also decides on acceptance.
        classifier: defines the class.
        count: number of samples.
        progress: called with the number found so far.

    Raises:
        DataError: the class is too rare: with 95 % confidence fewer than 1 in 1,000 samples are accepted.
    """
    from scipy.stats import chi2

    parts: list[Tensor] = []
    kept = drawn = 0
    while kept < count:
        z_sem = prior.sample(DRAWN_AT_ONCE, steps=steps, truncation=truncation, generator=generator)
        p = classifier.probability(z_sem)
        chosen = (p >= 0.5) & (torch.rand(len(p), generator=generator) < p)
        parts.append(z_sem[chosen.to(z_sem.device)])
        kept, drawn = kept + int(chosen.sum()), drawn + len(p)
        if progress:
            progress(min(kept, count))
        most = float(chi2.ppf(0.95, 2 * (kept + 1))) / 2  # upper confidence limit of a Poisson mean
        if kept < count and most < RAREST * drawn:
            what = f"{kept} of {drawn:,} z_sem drawn were accepted, so fewer than {RAREST:.1%} are of this class"
            raise DataError(f"{what}: it is too rare for this prior; give examples closer to the training images")
    return Accepted(torch.cat(parts)[:count], kept, drawn)
