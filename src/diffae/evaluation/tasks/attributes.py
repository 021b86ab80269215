"""How well can a linear classifier read attributes from z_sem? (Paper Table 8.)"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from diffae.errors import DataError
from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.linear_probe import ProbeResult, lead, macro_average, probe_attribute, weighted_average
from diffae.evaluation.material import Images
from diffae.evaluation.results import Cell, Claim, Picture, Result, Table, graded, listed, verdict
from diffae.evaluation.task import BaselineCounts, ProbeCounts, Task
from diffae.evaluation.tasks.manipulation import pixels
from diffae.evaluation.tasks.shared import about_baselines, too_few_labels
from diffae.latent.probes import LEAST_OF_CLASS
from diffae.plotting import dots

_PIXELS = "pixels, at most 16 x 16"
_OTHER = {True: "z_sem, cross-validated classifier", False: "z_sem, the paper's classifier"}  # whose is not the task's
_BASELINES = (_PIXELS, "PCA", "autoencoder", "VAE")  # of claim 4: fitted to the same images


@dataclass(frozen=True)
class Counts(ProbeCounts, BaselineCounts):
    """What the probes and the baselines are fitted to, and tested on."""


READ = ((0.95, "very well"), (0.85, "well"), (0.7, "moderately well"), (0.55, "poorly"))
"""Bounds of the average AUROC, in words for the summary."""


def attributes(context: EvaluationContext, counts: Counts) -> Result:
    """AUROC of every binary attribute, read from z_sem and from each baseline's code, on the same split."""
    names, left_out = context.probeable(counts.labelled, counts.tested)
    known, tested = context.train.first(counts.labelled), context.test.first(counts.tested)
    if not names:
        raise DataError(f"{listed(left_out)}: {LEAST_OF_CLASS} images of each class must be labelled, seen and unseen")
    codes = _codes(context, counts, known, tested)
    codes[_OTHER[context.papers]] = codes["z_sem"]
    readings: dict[str, list[ProbeResult]] = {code: [] for code in codes}
    with context.progress("attributes", len(codes) * len(names)) as done:
        for code, (fitted, unseen) in codes.items():
            published = context.papers != (code in _OTHER.values())
            for name in names:
                labels = known.labels[name], tested.labels[name]
                readings[code].append(probe_attribute(name, fitted, labels[0], unseen, labels[1], published=published))
                done(sum(map(len, readings.values())))
    areas = {name: {code: found[place].area for code, found in readings.items()} for place, name in enumerate(names)}
    rows: list[tuple[Cell, ...]] = [
        (name, reading.positives, *areas[name].values()) for name, reading in zip(names, readings["z_sem"], strict=True)
    ]
    rows.append(("average, by positives", None, *map(weighted_average, readings.values())))
    rows.append(("average, plain", None, *map(macro_average, readings.values())))
    sizes = ", ".join(f"{code} {fitted.shape[1]:,}" for code, (fitted, _) in codes.items())
    how = "by Adam without a penalty, as in the paper" if context.papers else "regularised by cross-validation"
    note = (
        f"AUROC on {len(tested):,} unseen images of logistic regression fitted to {len(known):,} training images, "
        f"{how}. Dimensions: {sizes}."
    )
    header = ("attribute", "positives", *codes)
    table = Table("auroc", "Linear classification of attributes (AUROC)", header, tuple(rows), note)
    caption = f"AUROC with 95 % intervals; {len(tested):,} unseen images."
    picture = Picture("auroc", caption, dots(areas, "AUROC"), chart=True)
    notes = (*_notes(context, counts), *too_few_labels(left_out))
    return Result((table,), (picture,), (_claim(readings, context.seed),), notes, _summary(names, readings))


def _summary(names: list[str], readings: Mapping[str, list[ProbeResult]]) -> str:
    """How well z_sem is read, beside the best baseline."""
    means = {code: macro_average(found) for code, found in readings.items() if code not in _OTHER.values()}
    area = means.pop("z_sem")
    said = f"A linear classifier reads {listed(names)} from z_sem {graded(area, READ, 'no better than chance')}"
    best = max(means, key=means.__getitem__, default=None)
    beside = f", {means[best]:.2f} from {best}" if best else ""
    return f"{said}: average AUROC {area:.2f}{beside}."


def _codes(
    context: EvaluationContext, counts: Counts, known: Images, tested: Images
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """z_sem, pixels, codes of the baselines and features: of the images fitted and of those tested."""
    see: dict[str, Callable[[Tensor], np.ndarray]] = {_PIXELS: pixels}
    for baseline in context.baselines(counts.learnt, counts.baseline_images):
        see[baseline.name] = lambda x, codes=baseline.codes: codes(x).numpy()
    if context.features:
        see[f"{context.features.name} features"] = context.features.vectors
    found = {"z_sem": (context.z_sem(known).numpy(), context.z_sem(tested).numpy())}
    for name, by in see.items():
        fitted, unseen = (
            np.concatenate([by(x) for x in context.blocks(images, f"attributes: {name}")]) for images in (known, tested)
        )
        found[name] = fitted, unseen
    return found


def _claim(readings: dict[str, list[ProbeResult]], seed: int) -> Claim:
    """Claim 4, against what was fitted to the same images."""
    others = {code: found for code, found in readings.items() if code in _BASELINES}
    leads = {code: lead(readings["z_sem"], found, seed) for code, found in others.items()}
    each = ", ".join(f"{code} {weighted_average(found):.3f}" for code, found in others.items())
    evidence = f"average AUROC {weighted_average(readings['z_sem']):.3f}; {each}"
    short = [f"{code} ({ahead.value:+.3f}, {ahead.low:+.3f} to {ahead.high:+.3f})"
             for code, ahead in leads.items() if not ahead.above(0)]  # fmt: skip
    reason = f"not significantly above {listed(short)}" if short else ""
    return Claim(4, verdict(*(ahead.above(0) for ahead in leads.values())), evidence, reason)


def _notes(context: EvaluationContext, counts: Counts) -> tuple[str, ...]:
    return (
        "The columns of a feature network and of autoencoders from elsewhere are for reference: those networks were "
        "trained on other images, and claim 4 does not count them.",
        about_baselines(context, counts.baseline_images),
    )


TASK = Task(
    "attributes",
    "Attributes",
    "Table 8",
    attributes,
    Counts,
    {4: "z_sem tells a linear classifier more than the baselines do"},
)
