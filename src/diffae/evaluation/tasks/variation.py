"""What does z_sem fix, and what does x_T change? (Paper Figs. 3 and 10.)"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from diffae.evaluation.context import Study
from diffae.evaluation.results import Claim, Picture, Result, Table, verdict
from diffae.evaluation.statistics import Estimate, mean
from diffae.evaluation.variation import FixedShare, Variation, fixed_share
from diffae.evaluation.variation import variation as vary
from diffae.plotting import heat_tile, tiles_of
from diffae.plotting_figures import labelled_rows

_SHOWN = 5  # variations in the picture
_ROWS = 6
_GAIN = 4.0  # of the map of standard deviations: white is a quarter or more
_FIXED = 0.8  # share of coarse structure that z_sem must fix for claim 1


def variation(study: Study) -> Result:
    """Share of the variance that z_sem fixes, coarse and fine; how alike variations are; means and deviations."""
    x = study.unseen(study.counts.varied, "variation")
    z_sem = study.model.encode_semantic(x)
    found = vary(
        study.model, z_sem, study.counts.variations, generator=study.generator("variation"), sampling=study.sampling
    )
    share = fixed_share(found)
    rows: list[tuple[str, float]] = [
        ("coarse: means of 4 x 4 squares", share.coarse),
        ("fine: what these leave", share.fine),
        ("pixels", share.all),
    ]
    note = (
        f"Share of the variance between images that z_sem fixes; the rest changes with x_T. {len(x)} unseen images, "
        f"each decoded with {study.counts.variations} x_T."
    )
    tables = [Table("fixed", "What z_sem fixes", ("of the image", "share fixed by z_sem"), tuple(rows), note)]
    alike = _alike(study, x, found)
    if alike:
        header = ("measured by", "variations of one z_sem", "different images")
        text = f"Each of {len(x)} unseen images against one decoded from its z_sem, and against another unseen image."
        tables.append(Table("alike", "Variations and the image they are of", header, tuple(alike), text))
    evidence = f"z_sem fixes {share.coarse:.0%} of the variance of coarse structure, {share.fine:.0%} of the fine"
    rule = (
        f"Claim 1 counts as shown where z_sem fixes more than {_FIXED:.0%} of coarse structure, and less of the fine."
    )
    enough = share.coarse > _FIXED
    holds = (enough, enough and share.coarse > share.fine)
    claim = Claim(1, verdict(*holds), evidence, "" if all(holds) else _reason(study, share))
    return Result(tuple(tables), (_sheet(x, found),), (claim,), (rule,))


def _reason(study: Study, share: FixedShare) -> str:
    numbers = study.model.config.network.z_sem_channels
    if share.coarse > _FIXED:
        return f"z_sem fixes the fine as well as the coarse: {numbers} numbers are enough for both in such images"
    return f"{numbers} numbers leave {1 - share.coarse:.0%} of coarse structure to x_T: z_sem is not yet learnt well"


def _sheet(x: Tensor, found: Variation) -> Picture:
    """Each image, some variations, their mean and deviation."""
    sheet = [
        (f"image {i + 1}", [
            *tiles_of(x[i : i + 1], "input"),
            *tiles_of(found.images[i, :_SHOWN]),
            *tiles_of(found.mean[i : i + 1], "mean"),
            heat_tile(found.deviation[i] * _GAIN, f"std ×{_GAIN:g}"),
        ])
        for i in range(min(_ROWS, len(x)))
    ]  # fmt: skip
    caption = "One z_sem with different x_T; their mean, and where they differ (standard deviation)."
    return Picture("sheet", caption, labelled_rows(sheet))


def _alike(study: Study, x: Tensor, found: Variation) -> list[tuple[str, Estimate, Estimate]]:
    """Perceptual distance and identity of the first variation of each image, beside those of other images."""
    rows = []
    variations, others = found.images[:, 0].clamp(-1, 1), x.roll(1, 0)
    if study.perceptual:
        name, measure = study.perceptual.distance_name, study.perceptual.distance
        rows.append((f"{name} (lower is nearer)", mean(measure(x, variations)), mean(measure(x, others))))
    if study.identity:
        name, measure = study.identity.name, study.identity.similarity
        rows.append((f"{name} similarity (higher is nearer)", mean(measure(x, variations)), mean(measure(x, others))))
    return [(name, one, other) for name, one, other in rows if np.isfinite(one.value)]
