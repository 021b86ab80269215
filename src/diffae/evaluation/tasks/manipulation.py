"""Do edits do what they say, and leave the rest? (Paper Tables 9 and 10, Fig. 5.)"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffae.errors import DataError
from diffae.evaluation.context import Images, Study
from diffae.evaluation.distances import kernel
from diffae.evaluation.features import FeatureNetwork
from diffae.evaluation.results import Cell, Claim, Picture, Result, Table, text, verdict
from diffae.evaluation.statistics import Estimate, jackknife, mean
from diffae.evaluation.tasks.generated import about_distances, distances
from diffae.plotting import tiles_of
from diffae.plotting_figures import labelled_rows

LEAST = 12
"""Images of each kind that an attribute's row needs: with it, without it to edit, and others without it."""
_SHOWN = 8


_PAIRS = ("with and without", "edited and with", "edited and without")
_NOTES = (
    "Edits move z_sem along the attribute's direction until the logit is the median of images that have it (Eq. 11); "
    "x_T, by explicit inversion, is kept. Claim 6 counts as shown for an attribute where edited images are nearer both "
    "to those with it and to those without than these are to each other, each by more than the interval of the "
    "difference (of kernel distances). Those without are others than were edited.",
)


@dataclass(frozen=True)
class Edited:
    """An attribute given to unseen images that lack it; kernel and Frechet distances between the sets."""

    name: str
    without: Tensor
    made: Tensor
    smallest: int
    """Images in the smallest set."""
    apart: tuple[Estimate, Estimate]
    """(Frechet, kernel) between those with and those without."""
    to_with: tuple[Estimate, Estimate]
    to_without: tuple[Estimate, Estimate]
    toward: Estimate
    """By how much edited images are nearer to those with it than those without are; kernel distance."""
    near: Estimate
    """By how much edited images are nearer to those without it than those with it are."""

    @property
    def holds(self) -> bool | None:
        """Whether the edit moves toward those with the attribute and stays near those without; None: not decided."""
        both = self.toward.above(0), self.near.above(0)
        return all(both) if None not in both else False if False in both else None

    @property
    def words(self) -> str:
        """Both, said in words."""
        said = {True: "", False: "not ", None: "perhaps "}
        return f"{self.name} {said[self.toward.above(0)]}toward and {said[self.near.above(0)]}near"

    @property
    def reason(self) -> str:
        """Why not, where it does not."""
        return f"{self.name}: nearer by {text(self.toward)} to those with it, by {text(self.near)} to those without"


def manipulation(study: Study) -> Result:
    """Unseen images without an attribute, edited to have it, beside those that have it."""
    features = study.need_features()
    names = [name for name in study.directions.attributes_ if _enough(study.test, name)][: study.counts.edited]
    if not names:
        rule = f"no attribute has {LEAST} unseen images with it and {2 * LEAST} without; label more"
        raise DataError(f"{len(study.test)} unseen images: {rule}")
    found = [_compare(study, features, name) for name in names]
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (one.name, one.apart[1], one.to_with[1], one.to_without[1], one.to_with[0], one.to_without[0]) for one in found
    )
    header = ("attribute", *(f"{features.kernel_name}, {what}" for what in _PAIRS),
              *(f"{features.frechet_name}, {what}" for what in _PAIRS[1:]))  # fmt: skip
    note = about_distances(features, min(one.smallest for one in found))
    tables = [Table("distances", "Edited images, those with and those without", header, rows, note)]
    if study.identity:
        tables.append(_identity(study, found))
    strips = [
        row
        for one in found
        for row in ((f"without\n{one.name}", tiles_of(one.without[:_SHOWN])), ("edited", tiles_of(one.made[:_SHOWN])))
    ]
    picture = Picture("strips", "Unseen images and their edits; x_T is kept.", labelled_rows(strips))
    return Result(tuple(tables), (picture,), (_claim(found),), _NOTES)


def _claim(found: list[Edited]) -> Claim:
    """Claim 6, of each attribute."""
    reasons = [one.reason for one in found if not one.holds]
    return Claim(6, verdict(*(one.holds for one in found)), "; ".join(one.words for one in found), "; ".join(reasons))


def _compare(study: Study, features: FeatureNetwork, name: str) -> Edited:
    positives = study.test.having(name, 1).tensor(study.counts.distribution // 2)
    negatives = study.test.having(name, 0).tensor(study.counts.distribution)
    edited, others = negatives[::2], negatives[1::2]  # an edited image is near itself: that would say nothing
    made = edit(study, edited, name)
    have, lack, seen = (features.vectors(images) for images in (positives, others, made))
    apart, to_with, to_without = (distances(*pair, study.seed) for pair in ((have, lack), (have, seen), (lack, seen)))
    toward = jackknife(lambda a, b, c: kernel(a, b) - kernel(a, c), (have, lack, seen), study.seed)
    near = jackknife(lambda a, b, c: kernel(a, b) - kernel(b, c), (have, lack, seen), study.seed)
    smallest = min(len(others), len(positives))
    return Edited(name, edited, made, smallest, apart, to_with, to_without, toward, near)


def edit(study: Study, x: Tensor, name: str) -> Tensor:
    """Images with an attribute's logit brought to the median of those that have it; clamped to [-1, 1]."""
    code = study.encode(x, study.explicit, f"manipulation: {name}")
    changed = study.directions.edit(code, name, "median")
    return study.model.decode(changed, sampling=study.explicit).cpu().clamp(-1, 1)


def all_edited(study: Study, x: Tensor) -> Tensor:
    """Each image with one attribute changed, the attributes taken in turn."""
    names = list(study.directions.attributes_)
    parts = [edit(study, x[place :: len(names)], name) for place, name in enumerate(names) if place < len(x)]
    return torch.cat(parts)


def _identity(study: Study, found: list[Edited]) -> Table:
    """How much edited images are the same person, beside images that only went through the model, and others."""
    network = study.identity
    assert network is not None
    rows: list[tuple[Cell, ...]] = []
    for one in found:
        code = study.model.encode(one.without, study.explicit)
        back = study.model.decode(code, sampling=study.explicit).cpu().clamp(-1, 1)
        others = (one.made, back, one.without.roll(1, 0))
        rows.append((one.name, *(mean(network.similarity(one.without, other)) for other in others)))
    header = ("attribute", "edited", "x_T and z_sem kept", "different images")
    note = f"Cosine of {network.name} embeddings with the image itself. Means, bootstrap intervals."
    return Table("identity", f"{network.name} similarity", header, tuple(rows), note)


def _enough(images: Images, name: str) -> bool:
    return len(images.having(name, 1)) >= LEAST and len(images.having(name, 0)) >= 2 * LEAST
