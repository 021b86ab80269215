"""New images of a class from few examples. (Paper Table 3, Section 5.6.)"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from diffae.errors import DataError
from diffae.evaluation.context import Study
from diffae.evaluation.distances import frechet, kernel
from diffae.evaluation.features import FeatureNetwork
from diffae.evaluation.results import Cell, Picture, Result, Table, listed
from diffae.evaluation.statistics import Estimate
from diffae.evaluation.tasks.generated import about_bias, decode_many, prior_z_sem
from diffae.latent.few_shot import LatentClassifier, sample_like
from diffae.latent.prior import LatentPrior
from diffae.plotting import tiles_of
from diffae.plotting_figures import labelled_rows

EXAMPLES = 50
"""Positives, and as many negatives, of the binary scenario; twice as many positives of the other."""
UNLABELLED = 10_000
_SHOWN = 8
_LEAST = 20  # unseen images of a class


def conditional(study: Study) -> Result:
    """Distance of few-shot conditional samples from unseen images of the class, beside all samples' (naive)."""
    features, prior = study.need_features(), _prior(study)
    rows: list[tuple[Cell, ...]] = []
    strips, left_out, counts = [], [], []
    everything = _naive(study)
    for name, value in _classes(study):
        real = study.test.having(name, value).tensor(study.counts.distribution)
        words = name if value else f"not {name}"
        if len(real) < _LEAST or len(study.train.having(name, value)) < 2 * EXAMPLES:
            left_out.append(words)
            continue
        found: dict[str, list[tuple[float, float]]] = {"binary": [], "positive-unlabelled": []}
        for draw in range(study.counts.draws):
            seeded = replace(study, seed=study.seed + draw)
            for scenario, into in found.items():
                x = _samples(seeded, prior, name, value, scenario, min(len(real), len(everything)))
                into.append(_both(features, real, x))
                if draw == 0:
                    strips.append((f"{words}\n{scenario}", tiles_of(x[:_SHOWN])))
        naive = _both(features, real, everything[: len(real)])
        rows.append((words, *(_spread([pair[k] for pair in into]) for k in (0, 1) for into in found.values()), *naive))
        counts.append(len(real))
    if not rows:
        raise DataError(f"{listed(left_out)}: each class needs {_LEAST} unseen images and {2 * EXAMPLES} of training")
    kinds = (features.frechet_name, features.kernel_name)
    header = (
        "class", *(f"{kind}, {scenario}" for kind in kinds for scenario in ("binary", "positive-unlabelled")),
        *(f"{kind}, naive" for kind in kinds),
    )  # fmt: skip
    compared = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else f"{counts[0]}"
    note = (
        f"Mean and (mean less and plus a standard deviation) of {study.counts.draws} draws of examples, against "
        f"{compared} unseen images of the class and as many samples. Binary: {EXAMPLES} positives "
        f"and {EXAMPLES} negatives; positive-unlabelled: {2 * EXAMPLES} positives and "
        f"{min(UNLABELLED, len(study.train)):,} unlabelled. "
        f"Naive: samples of everything, once. T = {study.counts.class_steps}. {about_bias(features, min(counts))}"
    )
    notes = (f"Left out for want of labelled images: {listed(left_out)}.",) if left_out else ()
    table = Table("distances", "Few-shot conditional samples", header, tuple(rows), note)
    picture = Picture("samples", "Samples of each class.", labelled_rows(strips))
    return Result((table,), (picture,), notes=notes)


def _prior(study: Study) -> LatentPrior:
    prior_z_sem(study, 1, "a look")  # says so where there is none
    return study.model.require_prior()


def _classes(study: Study) -> list[tuple[str, int]]:
    """The first attributes, and what is without the first, as the paper takes Male and Female."""
    names = study.need_labels()
    return [(names[0], 1), (names[0], 0), *((name, 1) for name in names[1 : study.counts.classes])]


def _samples(study: Study, prior: LatentPrior, name: str, value: int, scenario: str, count: int) -> Tensor:
    """Images of a class that a few examples show, clamped to [-1, 1]."""
    rng = np.random.default_rng((study.seed, value))

    def examples(of: int, many: int) -> Tensor:
        images = study.train.having(name, of)
        return study.z_sem(images.at(np.sort(rng.permutation(len(images))[:many])))

    if scenario == "binary":
        like, others = examples(value, EXAMPLES), examples(1 - value, EXAMPLES)
    else:  # the same unlabelled ones for every class and draw: they are encoded once
        like, others = examples(value, 2 * EXAMPLES), study.z_sem(study.train.first(UNLABELLED))
    classifier = LatentClassifier(prior).fit(like.to(study.model.device), others.to(study.model.device))
    what = f"conditional: {name} {value}, {scenario}"
    with study.progress(f"{what}, drawing", count) as done:
        found = sample_like(prior, classifier, count, generator=study.generator(what), progress=done)
    return decode_many(study, found.z_sem, study.counts.class_steps, what)


def _naive(study: Study) -> Tensor:
    z_sem = prior_z_sem(study, study.counts.distribution, "conditional")
    return decode_many(study, z_sem, study.counts.class_steps, "conditional: naive")


def _both(features: FeatureNetwork, real: Tensor, x: Tensor) -> tuple[float, float]:
    one, other = features.vectors(real), features.vectors(x)
    return frechet(one, other), kernel(one, other)


def _spread(values: list[float]) -> Estimate:
    """Mean, and a standard deviation on both sides."""
    centre, spread = float(np.mean(values)), float(torch.tensor(values).std(correction=min(1, len(values) - 1)))
    return Estimate(centre, centre - spread, centre + spread, len(values))
