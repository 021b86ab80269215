"""What several tasks need: pictures of rows of images, distances between sets of images, and sentences of reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.distances import frechet, kernels_without
from diffae.evaluation.features import FeatureNetwork
from diffae.evaluation.results import Picture, listed
from diffae.evaluation.statistics import Estimate, from_left_out, grouped, jackknife
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
    return jackknife(frechet, (one, other), seed), kernel_estimate(one, other, seed)


def kernel_estimate(one: Float[np.ndarray, "n d"], other: Float[np.ndarray, "m d"], seed: int = 0) -> Estimate:
    """Kernel distance between two sets of features, with its jackknife interval."""
    value, *without = _kernels((one, other), ((0, 1),), seed)[0]
    return from_left_out(value, np.array(without), min(len(one), len(other)))


def nearer(
    real: Float[np.ndarray, "n d"], near: Float[np.ndarray, "m d"], far: Float[np.ndarray, "k d"], seed: int = 0
) -> Estimate:
    """How much nearer one set is to real images than another is: the difference of their kernel distances.

    Raises:
        DataError: too few images.
    """
    by_far, by_near = _kernels((real, near, far), ((0, 2), (0, 1)), seed)
    value, *without = by_far - by_near
    return from_left_out(value, np.array(without), min(map(len, (real, near, far))))


def _kernels(sets: Sequence[np.ndarray], pairs: Sequence[tuple[int, int]], seed: int) -> list[np.ndarray]:
    """Kernel distance of each pair of sets, and without each group of their images."""
    parts = [[rows[group] for group in groups] for rows, groups in zip(sets, grouped(sets, seed), strict=True)]
    return [kernels_without(parts[one], parts[other]) for one, other in pairs]


def about_distances(features: FeatureNetwork, count: int) -> str:
    """A note on distances between sets of `count` images."""
    return f"{count:,} images on each side. {about_bias(features, count)} Intervals by the jackknife."


def about_bias(features: FeatureNetwork, count: int) -> str:
    """A note on the bias of both distances at `count` images."""
    bias = f"{features.frechet_name} is biased upwards with so few images. " if count < _BIASED else ""
    return f"{bias}{features.kernel_name} is unbiased; it may fall slightly below 0."
