"""New images of a class that a few examples show: a latent classifier on the prior's draws (paper Section 5.6)."""

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
"""A class that is surely (95 %) rarer than this among the prior's draws is given up."""


class LatentClassifier:
    """p(c | z_sem): logistic regression on normalised z_sem, in which both sides count the same.

    With negatives it is the paper's binary classifier. With unlabelled codes instead it is its positive-unlabelled
    one: weighing the few positives as much as the many unlabelled is what oversampling them comes to.

    Args:
        prior: whose draws will be classified; normalises.
    """

    def __init__(self, prior: LatentPrior) -> None:
        self.prior = prior

    def fit(self, like: Float[Tensor, "n d"], others: Float[Tensor, "m d"]) -> LatentClassifier:
        """Learn from z_sem of examples, and of images that are not like them, or of which nothing is known.

        Sets `plane_` and `score_`, the AUROC of one fitted without a fifth of the examples, on that fifth.

        Raises:
            DataError: fewer than 5 of either.
        """
        for what, codes in (("positive examples", like), ("images to tell them from", others)):
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
        return self.prior.normalise(z_sem).double().cpu().numpy()


@dataclass(frozen=True)
class Accepted:
    """Draws from the prior that a classifier kept."""

    z_sem: Float[Tensor, "count d"]
    kept: int
    """How many were kept in all, those beyond `count` included."""
    drawn: int
    """How many were drawn."""


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
    """z_sem of a class, by rejection: of those with p(c | z_sem) of at least 1/2, each is kept with that probability.

    Args:
        prior, steps, truncation, generator: see `LatentPrior.sample`; the generator decides on keeping, too.
        classifier: what the class is.
        count: how many to find.
        progress: called with the number found so far.

    Raises:
        DataError: the class is too rare: with 95 % confidence fewer than 1 in 1,000 draws are kept.
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
        most = float(chi2.ppf(0.95, 2 * (kept + 1))) / 2  # upper limit of the expected number, by Poisson's law
        if kept < count and most < RAREST * drawn:
            what = f"{kept} of {drawn:,} z_sem drawn were kept, so fewer than {RAREST:.1%} are of this class"
            raise DataError(
                f"{what}: it is too rare for this prior; give examples nearer to what the model was trained on"
            )
    return Accepted(torch.cat(parts)[:count], kept, drawn)
