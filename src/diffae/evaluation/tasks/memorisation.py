"""Are samples new? (Paper Appendix C, Fig. 9.)"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from diffae.data.images import to_unit
from diffae.evaluation.context import Study
from diffae.evaluation.memorisation import SIGNIFICANT, Comparison, copying
from diffae.evaluation.results import Claim, Picture, Result, Table, verdict
from diffae.evaluation.statistics import mean
from diffae.evaluation.tasks.generated import decode_many, prior_z_sem
from diffae.plotting import tiles_of
from diffae.plotting_figures import histograms, labelled_rows

_STEPS = 20
_SHOWN, _NEAREST = 6, 5
_FEW = 0.25  # share of copies among the samples that must have been noticed for claim 7
_BLOCK = 512  # training images compared at once

View = Callable[[Tensor], Tensor]
"""Images in [-1, 1] => vectors whose mean squared difference is the distance."""


def memorisation(study: Study) -> Result:
    """Nearest training images of samples and of unseen images, and a test of whether samples are nearer."""
    count = min(study.counts.distribution, 500)
    x = decode_many(study, prior_z_sem(study, count, "memorisation"), _STEPS, "memorisation")
    unseen = study.unseen(count, "memorisation", least=10)
    found = {name: _compare(study, x, unseen, view, name) for name, view in _views(study).items()}
    rows = tuple(
        (name, mean(one.samples.relative), mean(one.held_out.relative), one.nearer, one.closest, one.p_value)
        for name, one in found.items()
    )
    p = copying(found.values())
    known = len(study.train.first(study.counts.known))
    note = (
        f"Distance of the nearest of {known:,} training images, or their mirror images, over the mean of the next "
        f"49: near 0 is a copy. {len(x)} samples, T = {_STEPS}; {len(unseen)} unseen images. Nearer: share of pairs in "
        "which the sample is nearer, 0.5 when alike. p by a one-sided Mann-Whitney U test, not "
        "corrected for the number of distances."
    )
    header = ("distance by", "samples", "unseen images", "nearer", "nearer than all unseen", "p")
    table = Table("nearest", "The nearest training image", header, rows, note)
    relative = {whose: getattr(found["pixels"], field).relative.tolist()
                for whose, field in (("samples", "samples"), ("unseen images", "held_out"))}  # fmt: skip
    pictures = (
        Picture("nearest", "Samples, and their nearest training images by pixels.", _sheet(study, x, found["pixels"])),
        Picture("distances", f"How near the nearest training image is, by pixels; {len(x)} samples, {len(unseen)} "
                "unseen images.", histograms(relative, "distance of the nearest over that of the next 49"), chart=True),
    )  # fmt: skip
    return Result((table,), pictures, (_claim(found, p, len(x)),))


def _claim(found: dict[str, Comparison], p: float, count: int) -> Claim:
    """Claim 7, which a test of too few samples cannot decide: it must have noticed copies, had there been some."""
    noticed = max(one.noticed(len(found)) for one in found.values())
    evidence = (
        f"samples are no nearer to training images than unseen ones are (p = {p:.2g}, corrected for {len(found)} "
        f"distances); of {count} samples, {noticed} copies would have been noticed"
    )
    if p >= SIGNIFICANT and noticed <= _FEW * count:
        return Claim(7, verdict(True), evidence)
    if p >= SIGNIFICANT:
        return Claim(7, verdict(None), evidence, f"that is more than {_FEW:.0%}; take more samples")
    closest = min(found, key=lambda name: found[name].p_value)
    told = f"by {closest}, in {found[closest].nearer:.0%} of the pairs the sample is nearer than the unseen image, and "
    told += f"{found[closest].closest} of {count} samples are nearer than every unseen one"
    return Claim(7, verdict(False), f"p = {p:.2g}, corrected for {len(found)} distances", told)


def _views(study: Study) -> dict[str, View]:
    """By pixels in [0, 1], by normalised z_sem, and by features where there is a network."""
    typical = study.z_sem(study.train.first(study.counts.labelled))
    centre, spread = typical.mean(0), typical.std(0).clamp(min=1e-6)
    views: dict[str, View] = {
        "pixels": lambda x: to_unit(x).flatten(1),
        "z_sem": lambda x: (study.model.encode_semantic(x).cpu() - centre) / spread,
    }
    if study.features:
        network = study.features
        views[f"{network.name} features"] = lambda x: torch.from_numpy(network.vectors(x))
    return views


def _compare(study: Study, x: Tensor, unseen: Tensor, view: View, name: str) -> Comparison:
    known = study.train.first(study.counts.known)
    with study.progress(f"memorisation: {name}", len(known)) as done:

        def parts() -> Iterator[Tensor]:
            for start in range(0, len(known), _BLOCK):
                yield view(known.at(slice(start, start + _BLOCK)).tensor())
                done(min(start + _BLOCK, len(known)))

        return Comparison.of(x, unseen, view, parts())


def _sheet(study: Study, x: Tensor, found: Comparison):
    rows = []
    for index in range(min(_SHOWN, len(x))):
        near = found.samples.rows[index, :_NEAREST]
        images = study.train.at(near).tensor()
        captions = [f"{distance:.3g}" for distance in found.samples.distances[index, :_NEAREST]]
        rows.append((f"sample {index + 1}", [*tiles_of(x[index : index + 1]), *tiles_of(images, captions)]))
    return labelled_rows(rows)
