"""Images that a model makes of nothing, or of z_sem alone, for the tasks that look at many."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffae.config import Sampling
from diffae.evaluation.context import Study
from diffae.evaluation.distances import frechet, kernel
from diffae.evaluation.features import FeatureNetwork
from diffae.evaluation.results import Skipped
from diffae.evaluation.statistics import Estimate, jackknife

BIASED = 2048
"""Fewer images than the paper's tens of thousands, and fewer than features, make a Frechet distance too large."""


def decode_many(study: Study, z_sem: Float[Tensor, "n d"], steps: int, what: str) -> Float[Tensor, "n c h w"]:
    """Images of semantic codes with random x_T, clamped to [-1, 1], with a progress bar."""
    generator = study.generator(f"{what} {steps}")
    parts = []
    with study.progress(f"{what}, T = {steps}", len(z_sem)) as done:
        for part in z_sem.split(64):
            parts.append(study.model.decode(z_sem=part, sampling=Sampling(steps), generator=generator).cpu())
            done(sum(map(len, parts)))
    return torch.cat(parts).clamp(-1, 1)


def prior_z_sem(study: Study, count: int, what: str) -> Float[Tensor, "count d"]:
    """z_sem drawn from the prior.

    Raises:
        Skipped: the run has none.
    """
    if study.model.prior is None:
        raise Skipped(f"{study.run} has no latent prior; train one with `diffae train-prior {study.run}`")
    return study.model.prior.sample(count, generator=study.generator(f"prior for {what}"))


def distances(
    one: Float[np.ndarray, "n d"], other: Float[np.ndarray, "m d"], seed: int = 0
) -> tuple[Estimate, Estimate]:
    """Frechet and kernel distance of two sets of features, with jackknife intervals.

    Raises:
        DataError: too few images.
    """
    return jackknife(frechet, (one, other), seed), jackknife(kernel, (one, other), seed)


def about_distances(features: FeatureNetwork, count: int) -> str:
    """How far to trust such a table."""
    return f"{count:,} images on each side. {about_bias(features, count)} Intervals by the jackknife."


def about_bias(features: FeatureNetwork, count: int) -> str:
    """What few images do to the two distances."""
    bias = f"{features.frechet_name} is biased upwards at so few images. " if count < BIASED else ""
    return f"{bias}{features.kernel_name} is not biased; it may fall a little below 0."
