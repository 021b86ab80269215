"""Which images is the model not made for, and what tells them? (Paper Appendix K.)"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from diffae.data.images import to_tensor
from diffae.evaluation.context import Study
from diffae.evaluation.outliers import scores, shifted, textures
from diffae.evaluation.results import Claim, Picture, Result, Table, listed, verdict
from diffae.evaluation.statistics import Estimate, auroc, mean
from diffae.plotting import tiles_of
from diffae.plotting_figures import histograms, labelled_rows

_SHOWN = 8
_INSIDE = "unseen"
_ABOUT_X_T = ("x_T not normal", "x_T correlated")


def out_of_distribution(study: Study) -> Result:
    """Scores of unseen, shifted and foreign images, and how well each score tells them."""
    x = study.unseen(study.counts.outliers, "out-of-distribution", least=8)
    kinds: dict[str, Tensor] = {_INSIDE: x, **shifted(x, study.generator("shifts")), **_foreign(study, len(x))}
    found = _scores(study, kinds)
    measures = list(found[_INSIDE])
    inside = found[_INSIDE]
    rows = tuple((kind, *(mean(found[kind][measure]) for measure in measures)) for kind in kinds)
    areas = {kind: [_area(values[m], inside[m]) for m in measures] for kind, values in found.items() if kind != _INSIDE}
    told = tuple((kind, *values) for kind, values in areas.items())
    how = f"x_T by explicit inversion in {study.explicit.steps} steps"
    note = f"{len(x)} images of each kind; {how}. Higher is more unusual."
    tables = (
        Table("auroc", "Telling other images from unseen ones of the same kind (AUROC)", ("images", *measures), told,
              "0.5 is chance. Unseen images count as inside."),
        Table("scores", "Scores", ("images", *measures), rows, note),
    )  # fmt: skip
    sheet = labelled_rows([(kind, tiles_of(images[:_SHOWN])) for kind, images in kinds.items()])
    foreign = _names_of_foreign(kinds)
    charts = {kind: found[kind]["x_T correlated"].tolist() for kind in (_INSIDE, "negative", *foreign)}
    pictures = (
        Picture("sheet", "Unseen, shifted and foreign images.", sheet),
        Picture("correlation", f"Correlation of neighbouring values of x_T; {len(x)} images of each kind.",
                histograms(charts, "correlation, absolute"), chart=True),
    )  # fmt: skip
    return Result(tables, pictures, _claims(measures, {kind: areas[kind] for kind in foreign}))


def _scores(study: Study, kinds: dict[str, Tensor]) -> dict[str, dict[str, np.ndarray]]:
    typical = study.z_sem(study.train.first(study.counts.labelled))
    found = {}
    for name, images in kinds.items():
        with study.progress(f"out-of-distribution: {name}", len(images)) as done:
            found[name] = scores(
                study.model, images, generator=study.generator("outliers"), sampling=study.explicit, typical=typical,
                progress=done,
            )  # fmt: skip
    return found


def _area(outside: np.ndarray, inside: np.ndarray) -> Estimate:
    return auroc(np.concatenate([outside, inside]), np.arange(len(outside) + len(inside)) < len(outside))


def _foreign(study: Study, count: int) -> dict[str, Tensor]:
    """Images of another kind: those given, and textures."""
    channels, size, _ = study.model.image_shape
    found = {"foreign: textures": textures(count, channels, size, study.generator("textures"))}
    if study.foreign is not None:
        found["foreign: given"] = to_tensor(study.foreign.fetch(np.arange(min(count, len(study.foreign)))))
    return found


def _names_of_foreign(kinds: dict[str, Tensor]) -> list[str]:
    return [kind for kind in kinds if kind.startswith("foreign")]


def _claims(measures: list[str], areas: dict[str, list]) -> tuple[Claim, ...]:
    """Claim 8: for every kind of foreign images, some score of x_T tells them better than chance."""
    best = {
        kind: max(((value, m) for value, m in zip(values, measures, strict=True) if m in _ABOUT_X_T),
                  key=lambda pair: pair[0].value)
        for kind, values in areas.items()
    }  # fmt: skip
    evidence = "; ".join(f"{kind}: AUROC {value.value:.3f} by “{measure}”" for kind, (value, measure) in best.items())
    chance = [f"{kind} ({value.low:.3f} to {value.high:.3f})" for kind, (value, _) in best.items() if value.low <= 0.5]
    reason = f"the interval of the best score's AUROC reaches 0.5 for {listed(chance)}" if chance else ""
    return (Claim(8, verdict(*(value.low > 0.5 for value, _ in best.values())), evidence, reason),)
