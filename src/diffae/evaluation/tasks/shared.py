"""What several tasks need: pictures of rows of images, distances between sets of images, and sentences of reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.distances import frechet, kernel
from diffae.evaluation.features import FeatureNetwork
from diffae.evaluation.results import Picture, listed
from diffae.evaluation.statistics import Estimate, jackknife
from diffae.plotting import curves, labelled_rows, tiles_of

NO_DDIM = "No DDIM baseline was given (--ddim) to compare with."

_BIASED = 2048  # with fewer images, or fewer than features, a Frechet distance is too large


def sheet(name: str, caption: str, rows: Iterable[tuple[str, Tensor]], shown: int = 8) -> Picture:
    """Rows of images in [-1, 1], the first `shown` of each, with a label before each row."""
    return Picture(name, caption, labelled_rows([(label, tiles_of(images[:shown])) for label, images in rows]))


def against_steps(
    name: str, caption: str, lines: Mapping[str, Mapping[int, Estimate]], label: str, logarithmic: str = "x"
) -> Picture:
    """Curves of {T: value} against T."""
    drawn = {line: (list(values), list(values.values())) for line, values in lines.items()}
    return Picture(name, caption, curves(drawn, "steps T", label, logarithmic=logarithmic), chart=True)


def about_samplers(context: EvaluationContext) -> tuple[str, ...]:
    """A note on models that are decoded by the published sampler although the protocol is not the paper's."""
    eps = [whose for whose, model in context.models.items() if model.config.diffusion.prediction == "eps"]
    if context.papers or not eps:
        return ()
    return (
        f"{listed(eps)}: decoded from random x_T by the published sampler, which clips, as a network for eps needs.",
    )


def about_baselines(context: EvaluationContext, allowed: int) -> str:
    """A note on how long the autoencoder and the VAE were trained, where `allowed` images bound it."""
    seen, ours = min(allowed, context.trained.images), context.trained.images
    short = "; they are undertrained, and no claim counts them" if seen < ours else ""
    return f"The autoencoder and the VAE saw {seen:,} images in training, the model {ours:,}{short}."


def too_few_labels(names: Sequence[str]) -> tuple[str, ...]:
    """A note on attributes or classes that were left out."""
    return (f"Left out, because too few images are labelled: {listed(names)}.",) if names else ()


def distances(
    one: Float[np.ndarray, "n d"], other: Float[np.ndarray, "m d"], seed: int = 0
) -> tuple[Estimate, Estimate]:
    """Frechet and kernel distance between two sets of features, with jackknife intervals.

    Raises:
        DataError: too few images.
    """
    return jackknife(frechet, (one, other), seed), jackknife(kernel, (one, other), seed)


def about_distances(features: FeatureNetwork, count: int) -> str:
    """A note on distances between sets of `count` images."""
    return f"{count:,} images on each side. {about_bias(features, count)} Intervals by the jackknife."


def about_bias(features: FeatureNetwork, count: int) -> str:
    """A note on the bias of both distances at `count` images."""
    bias = f"{features.frechet_name} is biased upwards with so few images. " if count < _BIASED else ""
    return f"{bias}{features.kernel_name} is unbiased; it may fall slightly below 0."
