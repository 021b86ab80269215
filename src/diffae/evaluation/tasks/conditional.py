"""New images of a class from few examples. (Paper Table 3, Section 5.6.)"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from diffae.errors import DataError
from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.distances import frechet, kernel
from diffae.evaluation.results import Cell, Result, Table, listed
from diffae.evaluation.statistics import Estimate
from diffae.evaluation.task import DistributionCounts, Task, count
from diffae.evaluation.tasks.shared import about_bias, sheet, too_few_labels
from diffae.latent.few_shot import LatentClassifier, sample_like

EXAMPLES = 50
"""Positives, and as many negatives, in the binary scenario; the positive-unlabelled one has twice as many positives."""
UNLABELLED = 10_000
"""Training images of the positive-unlabelled scenario."""

_SCENARIOS = ("binary", "positive-unlabelled")
_LEAST = 20  # unseen images of a class


@dataclass(frozen=True)
class Counts(DistributionCounts):
    """How many classes are tried, and how often."""

    classes: int = count(1, 3)
    """Attributes whose classes are sampled."""
    class_steps: int = count(10, 100)
    """T of the samples."""
    draws: int = count(2, 3)
    """Repetitions, each with other examples."""


def conditional(context: EvaluationContext, counts: Counts) -> Result:
    """Distance from few-shot conditional samples to unseen images of the class, beside that of all samples (naive)."""
    features = context.need_features()
    z_sem, classes = context.sample_z_sem(counts.distribution, "conditional"), _classes(context, counts)
    naive = context.decode(z_sem, counts.class_steps, "conditional: naive")
    rows: list[tuple[Cell, ...]] = []
    pictures, left_out, sizes = [], [], []
    for name, value in classes:
        real = context.test.having(name, value).tensor(counts.distribution)
        words = name if value else f"not {name}"
        if len(real) < _LEAST or len(context.train.having(name, value)) < 2 * EXAMPLES:
            left_out.append(words)
            continue
        seen, total = features.vectors(real), min(len(real), len(naive))
        found: dict[str, list[tuple[float, float]]] = {scenario: [] for scenario in _SCENARIOS}
        for draw in range(counts.draws):
            for scenario, pairs in found.items():
                z_like = _samples(context, name, value, scenario, total, draw)
                x = context.decode(z_like, counts.class_steps, _purpose(name, value, scenario), draw=draw)
                pairs.append(_both(seen, features.vectors(x)))
                pictures += [(f"{words}\n{scenario}", x[:8])] if draw == 0 else []
        spreads = (_spread([pair[k] for pair in pairs]) for k in (0, 1) for pairs in found.values())
        rows.append((words, *spreads, *_both(seen, features.vectors(naive[: len(real)]))))
        sizes.append(len(real))
    if not rows:
        raise DataError(f"{listed(left_out)}: each class needs {_LEAST} unseen images and {2 * EXAMPLES} of training")
    kinds = (features.frechet_name, features.kernel_name)
    header = ("class", *(f"{kind}, {scenario}" for kind in kinds for scenario in _SCENARIOS),
              *(f"{kind}, naive" for kind in kinds))  # fmt: skip
    note = _note(context, counts, sizes) + about_bias(features, min(sizes))
    table = Table("distances", "Few-shot conditional samples", header, tuple(rows), note)
    return Result((table,), (sheet("samples", "Samples of each class.", pictures),), notes=too_few_labels(left_out))


def _classes(context: EvaluationContext, counts: Counts) -> list[tuple[str, int]]:
    """(attribute, value): the first attributes, and the complement of the first, like the paper's Male and Female."""
    names = context.need_labels()
    return [(names[0], 1), (names[0], 0), *((name, 1) for name in names[1 : counts.classes])]


def _purpose(name: str, value: int, scenario: str) -> str:
    return f"conditional: {name} {value}, {scenario}"


def _samples(context: EvaluationContext, name: str, value: int, scenario: str, total: int, draw: int) -> Tensor:
    """z_sem of a class, sampled with the help of a classifier of few examples."""
    rng, device = np.random.default_rng((context.seed + draw, value)), context.model.device

    def examples(of: int, many: int) -> Tensor:
        images = context.train.having(name, of)
        return context.z_sem(images.at(np.sort(rng.permutation(len(images))[:many])))

    if scenario == "binary":
        like, others = examples(value, EXAMPLES), examples(1 - value, EXAMPLES)
    else:  # the unlabelled images are the same for every class and draw, so that they are encoded once
        like, others = examples(value, 2 * EXAMPLES), context.z_sem(context.train.first(UNLABELLED))
    prior, what = context.need_prior(), _purpose(name, value, scenario)
    classifier = LatentClassifier(prior).fit(like.to(device), others.to(device))
    with context.progress(f"{what}, drawing", total) as done:
        generator = context.generator(what, draw)
        return sample_like(prior, classifier, total, generator=generator, progress=done).z_sem


def _both(real: np.ndarray, made: np.ndarray) -> tuple[float, float]:
    return frechet(real, made), kernel(real, made)


def _spread(values: list[float]) -> Estimate:
    """Mean plus and minus one standard deviation."""
    centre, spread = float(np.mean(values)), float(np.std(values, ddof=min(1, len(values) - 1)))
    return Estimate(centre, centre - spread, centre + spread, len(values))


def _note(context: EvaluationContext, counts: Counts, sizes: list[int]) -> str:
    compared = f"{min(sizes)} to {max(sizes)}" if min(sizes) < max(sizes) else f"{sizes[0]}"
    return (
        f"Mean (plus and minus a standard deviation) over {counts.draws} draws of examples, against {compared} unseen "
        f"images of the class and as many samples. Binary: {EXAMPLES} positives and {EXAMPLES} negatives; "
        f"positive-unlabelled: {2 * EXAMPLES} positives and {min(UNLABELLED, len(context.train)):,} unlabelled. Naive: "
        f"unconditional samples, once. T = {counts.class_steps}. "
    )


TASK = Task("conditional", "Conditional generation", "Table 3", conditional, Counts, paper={"distribution": 5_000})
