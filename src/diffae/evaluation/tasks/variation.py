"""What does z_sem fix, and what does x_T change? Decoding one z_sem with many x_T (paper Figs. 3 and 10)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from diffae.config import Sampling
from diffae.data.images import to_unit
from diffae.errors import DataError
from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.results import Claim, Picture, Result, Table, verdict
from diffae.evaluation.statistics import Estimate, mean
from diffae.evaluation.task import Task, count
from diffae.model import DiffusionAutoencoder
from diffae.plotting import heat_tile, labelled_rows, tiles_of

_SHOWN = 5  # variations in the picture
_ROWS = 6
_GAIN = 4.0  # of the map of standard deviations: white is a quarter or more
_FIXED = 0.8  # share of coarse structure that z_sem must fix for claim 1


@dataclass(frozen=True)
class Variation:
    """Images of n semantic codes, each decoded with `count` different x_T; in [-1, 1]."""

    images: Float[Tensor, "n count c h w"]

    @property
    def mean(self) -> Float[Tensor, "n c h w"]:
        """Mean over x_T, in [-1, 1]."""
        return self.images.mean(dim=1)

    @property
    def deviation(self) -> Float[Tensor, "n h w"]:
        """Standard deviation over x_T, averaged over channels; images in [0, 1]."""
        return to_unit(self.images).std(dim=1, correction=0).mean(dim=1)


def vary(
    model: DiffusionAutoencoder,
    z_sem: Float[Tensor, "n d"],
    count: int,
    *,
    generator: torch.Generator,
    sampling: Sampling | None = None,
) -> Variation:
    """Decode each z_sem with `count` x_T drawn from N(0, I).

    Raises:
        DataError: fewer than 2 x_T.
    """
    if count < 2:
        raise DataError(f"{count} variation: at least 2 are needed for a deviation")
    images = model.decode(z_sem=z_sem.repeat_interleave(count, 0), sampling=sampling, generator=generator).cpu()
    return Variation(images.unflatten(0, (len(z_sem), count)))


@dataclass(frozen=True)
class FixedShare:
    """Share of the variance between images that z_sem fixes, 0..1; the rest changes with x_T."""

    coarse: float
    """Of images averaged over squares of a quarter of their side: 4 x 4 squares."""
    fine: float
    """Of what the average leaves."""
    all: float
    """Of the pixels."""


def fixed_share(variations: Variation) -> FixedShare:
    """1 - (variance over x_T of one z_sem) / (variance over both), by the law of total variance.

    The variance within one z_sem is estimated without bias, so that it does not depend on the number of x_T.

    Raises:
        DataError: fewer than 2 semantic codes.
    """
    images = to_unit(variations.images).double()
    n, count, _, height, width = images.shape
    if n < 2:
        raise DataError(f"{n} semantic code: at least 2 are needed to compare what differs between images")
    side = (max(height // 4, 1), max(width // 4, 1))
    coarse = F.avg_pool2d(images.flatten(0, 1), side, ceil_mode=True)
    smooth = F.interpolate(coarse, (height, width)).unflatten(0, (n, count))
    parts = {"coarse": smooth, "fine": images - smooth, "all": images}
    return FixedShare(**{name: _share(part) for name, part in parts.items()})


def _share(images: Float[Tensor, "n count c h w"]) -> float:
    within = images.var(dim=1).mean()
    between = images.mean(dim=1).var(dim=0).mean() - within / images.shape[1]  # less the noise of the means
    total = within + between.clamp(min=0)
    return float(1 - within / total) if total > 0 else 1.0


@dataclass(frozen=True)
class Counts:
    """How many variations of how many images."""

    varied: int = count(6, 32, "test")
    """Unseen images."""
    variations: int = count(12, 64)
    """x_T for each."""


def variation(context: EvaluationContext, counts: Counts) -> Result:
    """Share of the variance that z_sem fixes, coarse and fine; similarity of variations; means and deviations."""
    x = context.unseen(counts.varied, "variation")
    z_sem, generator = context.model.encode_semantic(x), context.generator("variation")
    sampling = context.at(context.sampling.steps)
    found = vary(context.model, z_sem, counts.variations, generator=generator, sampling=sampling)
    share = fixed_share(found)
    rows = (
        ("coarse: means of 4 x 4 squares", share.coarse),
        ("fine: what these leave", share.fine),
        ("pixels", share.all),
    )
    note = (
        f"Share of the variance between images that z_sem fixes; the rest changes with x_T. {len(x)} unseen images, "
        f"each decoded with {counts.variations} x_T."
    )
    tables = [Table("fixed", "What z_sem fixes", ("of the image", "share fixed by z_sem"), rows, note)]
    alike = _alike(context, x, found)
    if alike:
        header = ("measured by", "variations of one z_sem", "different images")
        note = f"Each of {len(x)} unseen images against one decoded from its z_sem, and against another unseen image."
        tables.append(Table("alike", "Variations and the image they are of", header, alike, note))
    rule = f"Claim 1 counts as shown if z_sem fixes more than {_FIXED:.0%} of coarse structure, and less of the fine."
    return Result(tuple(tables), (_sheet(x, found),), (_claim(context, share),), (rule,))


def _claim(context: EvaluationContext, share: FixedShare) -> Claim:
    evidence = f"z_sem fixes {share.coarse:.0%} of the variance of coarse structure, {share.fine:.0%} of the fine"
    enough, numbers = share.coarse > _FIXED, context.model.config.z_sem_channels
    reason = (
        f"with {numbers} dimensions, {1 - share.coarse:.0%} of coarse structure is left to x_T: z_sem is undertrained"
    )
    if enough:
        better = share.coarse > share.fine
        reason = f"z_sem fixes the fine as well as the coarse: {numbers} dimensions are enough for both in such images"
        return Claim(1, verdict(True, better), evidence, "" if better else reason)
    return Claim(1, verdict(False), evidence, reason)


def _sheet(x: Tensor, found: Variation) -> Picture:
    """Each image, some variations, their mean and deviation."""
    rows = [
        (f"image {i + 1}", [
            *tiles_of(x[i : i + 1], "input"),
            *tiles_of(found.images[i, :_SHOWN]),
            *tiles_of(found.mean[i : i + 1], "mean"),
            heat_tile(found.deviation[i] * _GAIN, f"std ×{_GAIN:g}"),
        ])
        for i in range(min(_ROWS, len(x)))
    ]  # fmt: skip
    caption = "One z_sem with different x_T; their mean, and where they differ (standard deviation)."
    return Picture("sheet", caption, labelled_rows(rows))


def _alike(context: EvaluationContext, x: Tensor, found: Variation) -> tuple[tuple[str, Estimate, Estimate], ...]:
    """Perceptual distance and identity of one variation of each image, beside those of other images."""
    measures = {}
    if context.perceptual:
        measures[f"{context.perceptual.distance_name} (lower is nearer)"] = context.perceptual.distance
    if context.identity:
        measures[f"{context.identity.name} similarity (higher is nearer)"] = context.identity.similarity
    variations, others = found.images[:, 0].clamp(-1, 1), x.roll(1, 0)
    rows = ((name, mean(by(x, variations)), mean(by(x, others))) for name, by in measures.items())
    return tuple(row for row in rows if np.isfinite(row[1].value))


TASK = Task("variation", "Variation", "Figs. 3, 10", variation, Counts, {1: "x_T changes details only"})
