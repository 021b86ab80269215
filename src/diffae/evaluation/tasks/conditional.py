"""New images of a class from few examples. (Paper Table 3, Section 5.6.)"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from diffae.errors import DataError
from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.distances import frechet, kernel
from diffae.evaluation.results import Cell, Claim, Result, Table, listed, text, verdict
from diffae.evaluation.statistics import Estimate
from diffae.evaluation.task import DistributionCounts, Task, count
from diffae.evaluation.tasks.shared import about_bias, nearer, sheet, too_few_labels
from diffae.latent.few_shot import LatentClassifier, sample_like

EXAMPLES = 50
"""Positives, and as many negatives, in the binary scenario; the positive-unlabelled one has twice as many positives."""
UNLABELLED = 10_000
"""Training images of the positive-unlabelled scenario."""

_SCENARIOS = ("binary", "positive-unlabelled")
_LEAST = 20  # real images of a class


@dataclass(frozen=True)
class Counts(DistributionCounts):
    """How many classes are tried, and how often."""

    classes: int = count(1, 3)
    """Attributes whose classes, with and without, are sampled, if none are named."""
    class_steps: int = count(10, 100)
    """T of the samples."""
    draws: int = count(2, 3)
    """Repetitions, each with other examples."""


@dataclass(frozen=True)
class Sampled:
    """Few-shot samples of a class, in one scenario, over all draws of examples."""

    distances: list[tuple[float, float]]
    """(Frechet, kernel) distance from the samples of each draw to real images of the class."""
    gain: Estimate
    """How much nearer the samples of all draws are than real images of every class; kernel distance."""


def conditional(context: EvaluationContext, counts: Counts) -> Result:
    """Distance from few-shot samples to real images of the class, beside that of all real images (naive)."""
    features, (classes, left_out) = context.need_features(), _classes(context, counts)
    context.need_prior()
    if not classes:
        raise DataError(f"{listed(left_out)}: each class needs {_LEAST} real images and {2 * EXAMPLES} of training")
    every = np.concatenate([features.vectors(x) for x in context.blocks(context.real, "conditional: naive")])
    rows: list[tuple[Cell, ...]] = []
    pictures, sizes, found = [], [], {}
    for name, value in classes:
        words = _words(name, value)
        real = features.vectors(context.real.having(name, value).tensor(counts.distribution))
        for scenario in _SCENARIOS:
            found[words, scenario], shown = _sampled(context, counts, (name, value), scenario, (real, every))
            pictures.append((f"{words}\n{scenario}", shown))
        spreads = (_spread([pair[k] for pair in found[words, how].distances]) for k in (0, 1) for how in _SCENARIOS)
        rows.append((words, *spreads, frechet(real, every), kernel(real, every[: counts.distribution])))
        sizes.append(len(real))
    kinds = (features.frechet_name, features.kernel_name)
    header = ("class", *(f"{kind}, {scenario}" for kind in kinds for scenario in _SCENARIOS),
              *(f"{kind}, naive" for kind in kinds))  # fmt: skip
    note = _note(context, counts, sizes, len(every)) + about_bias(features, min(sizes))
    table = Table("distances", "Few-shot conditional samples", header, tuple(rows), note)
    sheets = (sheet("samples", "Samples of each class.", pictures),)
    return Result((table,), sheets, (_claim(found),), too_few_labels(left_out))


def _classes(context: EvaluationContext, counts: Counts) -> tuple[list[tuple[str, int]], list[str]]:
    """(attribute, value) of the attributes chosen and their complements, as the paper's Male and Female; too rare ones.

    Without attributes chosen, the first ones.
    """
    names = context.attributes or context.need_labels()[: counts.classes]
    both = [(name, value) for name in names for value in (1, 0)]
    enough = [
        one for one in both if len(context.real.having(*one)) >= _LEAST
        and len(context.train.having(*one)) >= 2 * EXAMPLES
    ]  # fmt: skip
    return enough, [_words(*one) for one in both if one not in enough]


def _words(name: str, value: int) -> str:
    return name if value else f"not {name}"


def _sampled(
    context: EvaluationContext,
    counts: Counts,
    of: tuple[str, int],
    scenario: str,
    real: tuple[np.ndarray, np.ndarray],
) -> tuple[Sampled, Tensor]:
    """Samples of a class by each draw of examples, compared with features of its real images and of all real ones."""
    seen, every = real
    made, steps = [], counts.class_steps
    for draw in range(counts.draws):
        z_like = _samples(context, of, scenario, (len(seen), context.prior_steps(steps)), draw)
        x = context.decode(z_like, steps, _purpose(*of, scenario), draw=draw)
        made.append((context.need_features().vectors(x), x[:8]))
    drawn = np.concatenate([vectors for vectors, _ in made])
    gain = nearer(seen, drawn, every[: counts.distribution], context.seed)
    return Sampled([_both(seen, vectors) for vectors, _ in made], gain), made[0][1]


def _claim(found: dict[tuple[str, str], Sampled]) -> Claim:
    """Claim 11, over classes and scenarios."""
    holds = {place: one.gain.above(0) for place, one in found.items()}
    evidence = "; ".join(f"{words}, {how}: nearer by {text(one.gain)}" for (words, how), one in found.items())
    short = [f"{words} ({how})" for (words, how), right in holds.items() if not right]
    reason = f"not significantly nearer for {listed(short)}" if short else ""
    return Claim(11, verdict(*holds.values()), f"kernel distance; {evidence}", reason)


def _purpose(name: str, value: int, scenario: str) -> str:
    return f"conditional: {name} {value}, {scenario}"


def _samples(
    context: EvaluationContext, of: tuple[str, int], scenario: str, amount: tuple[int, int], draw: int
) -> Tensor:
    """z_sem of a class, `amount` = (how many, in how many steps), by a classifier of few examples."""
    (name, value), (total, steps) = of, amount
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
        return sample_like(prior, classifier, total, steps=steps, generator=generator, progress=done).z_sem


def _both(real: np.ndarray, made: np.ndarray) -> tuple[float, float]:
    return frechet(real, made), kernel(real, made)


def _spread(values: list[float]) -> Estimate:
    """Mean plus and minus one standard deviation."""
    centre, spread = float(np.mean(values)), float(np.std(values, ddof=min(1, len(values) - 1)))
    return Estimate(centre, centre - spread, centre + spread, len(values))


def _note(context: EvaluationContext, counts: Counts, sizes: list[int], every: int) -> str:
    compared = f"{min(sizes)} to {max(sizes)}" if min(sizes) < max(sizes) else f"{sizes[0]}"
    images = "images of training" if context.papers else "unseen images"
    return (
        f"Mean (plus and minus a standard deviation) over {counts.draws} draws of examples, against {compared} "
        f"{images} of the class and as many samples. Binary: {EXAMPLES} positives and {EXAMPLES} negatives; "
        f"positive-unlabelled: {2 * EXAMPLES} positives and {min(UNLABELLED, len(context.train)):,} unlabelled. Naive: "
        f"all {every:,} {images} against those of the class, which are among them, so it is small for a frequent "
        f"class; its kernel distance is of the first {min(every, counts.distribution):,}. T = {counts.class_steps}, of "
        f"the prior {context.prior_steps(counts.class_steps)}. "
    )


TASK = Task(
    "conditional",
    "Conditional generation",
    "Table 3",
    conditional,
    Counts,
    {11: "Few-shot samples of a class are nearer to its images than all images are (naive)"},
    paper={"distribution": 5_000},
)
