"""Do edits of an attribute do what they should, and nothing else? (Paper Tables 9 and 10, Fig. 5.)"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffae.config import Sampling
from diffae.data.labels import LabelTable
from diffae.errors import DataError
from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.features import FeatureNetwork
from diffae.evaluation.material import Images
from diffae.evaluation.other_systems import matched
from diffae.evaluation.results import Cell, Claim, Result, Table, text, verdict
from diffae.evaluation.statistics import GROUPS, Estimate, mean
from diffae.evaluation.task import DistributionCounts, LabelledCounts, Task, count
from diffae.evaluation.tasks.shared import about_distances, distances, nearer, sheet, too_few_labels
from diffae.latent.attributes import AttributeDirections
from diffae.latent.codes import Code
from diffae.model import DiffusionAutoencoder

See = Callable[[Float[Tensor, "b c h w"]], Float[np.ndarray, "b features"]]
"""Images in [-1, 1] => the features that a classifier reads: `pixels`, or `FeatureNetwork.vectors`."""
Compare = Callable[[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]], Float[np.ndarray, " b"]]
"""Pairs of images => similarity of the faces: `FeatureNetwork.similarity`."""

LEAST = 12
"""Unseen images that an attribute needs: as many with it, and twice as many without (half are edited)."""

_PAIRS = ("with and without", "edited and with", "edited and without")
_WAYS = {True: "along w (paper)", False: "along C w (default)"}  # of `AttributeDirections.edit`, by `published`
_NOTE = (
    "Edits move z_sem until the logit is the median of images that have the attribute: along the classifier's weight "
    "vector w, as in the paper (Eq. 11), or along C w, where C is the covariance of z_sem; x_T, by {} inversion, is "
    "kept. Claim 6 is decided by edits {}; it counts as shown for an attribute if edited images are nearer both to "
    "those with it and to those without than these are to each other, each by more than the interval of the "
    "difference (of kernel distances). The images without the attribute are others than the edited ones."
)

# ---------------------------------------------------------------------- what an edit changes, seen by other classifiers


def pixels(x: Float[Tensor, "b c h w"], side: int = 16) -> Float[np.ndarray, "b features"]:
    """The pixels, averaged down to `side` x `side` if there are more."""
    small = torch.nn.functional.adaptive_avg_pool2d(x, side) if x.shape[-1] > side else x
    return small.flatten(1).cpu().numpy()


class ImageProbe:
    """Linear probes on images, independent of the model: values in standard deviations over real images.

    Args:
        see: the features of an image.
    """

    def __init__(self, see: See = pixels) -> None:
        self.see = see

    def fit(self, images: Float[Tensor, "n c h w"], labels: LabelTable | Mapping[str, Any]) -> ImageProbe:
        """Fit to real images in [-1, 1]; labels and exceptions are those of `AttributeDirections.fit`."""
        seen = self.see(images)
        self.directions_ = AttributeDirections().fit(seen, labels)
        self.spread_ = self.directions_.read(seen).std(axis=0)
        return self

    def read(self, images: Float[Tensor, "b c h w"]) -> dict[str, np.ndarray]:
        """One value per image for each attribute."""
        values = self.directions_.read(self.see(images)) / self.spread_
        return dict(zip(self.directions_.names_, values.T, strict=True))


@dataclass(frozen=True)
class EditEffect:
    """The mean effect of an edit of one strength."""

    strength: float
    target: float
    """Change of the edited attribute, in standard deviations over real images."""
    others: dict[str, float]
    """Change of each other attribute, likewise."""
    pixels: float
    """Root mean square change of the image, in [0, 1]."""
    identity: float | None
    """Cosine similarity with the unedited image; None without a face network."""

    @property
    def leak(self) -> float:
        """Root mean square change of the others relative to the change of the target: 0 is a clean edit."""
        changes = np.array(list(self.others.values()))
        return float(np.sqrt(np.mean(changes**2)) / max(abs(self.target), 1e-12)) if len(changes) else 0.0


@torch.no_grad()
def edit_effects(
    model: DiffusionAutoencoder,
    images: Float[Tensor, "b c h w"],
    attributes: AttributeDirections,
    probe: ImageProbe,
    name: str,
    strengths: Sequence[float],
    *,
    code: Code | None = None,
    hold: Collection[str] = (),
    published: bool = False,
    same: Compare | None = None,
    sampling: Sampling | None = None,
) -> list[EditEffect]:
    """Edit images with each strength and measure what changed.

    Args:
        model: encodes and decodes.
        images: in [-1, 1]; neither the attributes nor the probe were fitted to them.
        attributes: of the model.
        probe: fitted to labels with the same columns.
        name: the attribute to edit.
        strengths: see `AttributeDirections.edit`.
        code: of the images, if known already.
        hold, published: see `AttributeDirections.edit`.
        same: compares faces.
        sampling: how to encode and decode.
    """
    code = code if code is not None else model.encode(images, sampling)
    images = images.cpu()
    before = probe.read(images)
    effects = []
    for strength in strengths:
        edited = attributes.edit(code, name, strength, hold=hold, published=published)
        after = model.decode(edited, sampling=sampling).cpu().clamp(-1, 1)
        change = {other: float(np.mean(value - before[other])) for other, value in probe.read(after).items()}
        target = change.pop(name)
        moved = float(((after - images) / 2).square().mean().sqrt())  # [-1, 1] => [0, 1]
        identity = None if same is None else float(same(images, after).mean())
        effects.append(EditEffect(strength, target, change, moved, identity))
    return effects


# ---------------------------------------------------------------------- the task


@dataclass(frozen=True)
class Counts(DistributionCounts, LabelledCounts):
    """How many attributes are edited, on how many images."""

    edited: int = count(2, 12)
    """Attributes."""


@dataclass(frozen=True)
class Edited:
    """An attribute given to unseen images without it, with distances between the sets of images."""

    name: str
    way: str
    """How it was edited: along which direction, or by which system."""
    decides: bool
    """Whether it is edited along the protocol's direction."""
    without: Tensor
    made: Tensor
    smallest: int
    """Images in the smallest set."""
    between: list[tuple[Estimate, Estimate]]
    """(Frechet, kernel) distance of each of the `_PAIRS`."""
    toward: Estimate
    """How much nearer edited images are to those with the attribute than those without are; kernel distance."""
    near: Estimate
    """How much nearer edited images are to those without the attribute than those with it are."""

    @property
    def holds(self) -> bool | None:
        """Whether edits move toward images with the attribute and stay near those without; None: not decided."""
        both = self.toward.above(0), self.near.above(0)
        return all(both) if None not in both else False if False in both else None

    @property
    def words(self) -> str:
        """Both findings in words."""
        said = {True: "", False: "not ", None: "perhaps "}
        return f"{self.name} {said[self.toward.above(0)]}toward and {said[self.near.above(0)]}near"

    @property
    def reason(self) -> str:
        """The numbers behind them."""
        return f"{self.name}: nearer by {text(self.toward)} to those with it, by {text(self.near)} to those without"


def manipulation(context: EvaluationContext, counts: Counts) -> Result:
    """Unseen images without an attribute, edited to have it, compared with images that have it."""
    features = context.need_features()
    fitted = context.directions(counts.labelled).attributes_
    names = [name for name in context.attributes or fitted if name in fitted and _enough(context.test, name)]
    if not names:
        rule = f"no attribute has {LEAST} unseen images with it and {2 * LEAST} without; label more"
        raise DataError(f"{len(context.test)} unseen images: {rule}")
    names = names[: None if context.attributes else counts.edited]
    found = [one for name in names for one in _compare(context, features, counts, name)]
    rows = tuple((one.name, one.way, *(pair[k] for k in (1, 0) for pair in one.between)) for one in found)
    kinds = (features.kernel_name, features.frechet_name)
    header = ("attribute", "edit", *(f"{kind}, {what}" for kind in kinds for what in _PAIRS))
    note = about_distances(features, min(one.smallest for one in found))
    tables = [Table("distances", "Edited images, images with the attribute and without", header, rows, note)]
    if context.identity:
        tables.append(_identity(context, context.identity, found))
    strips = []
    for one in found:
        strips += [(f"without\n{one.name}", one.without)] * one.decides + [(one.way.replace(" (", "\n("), one.made)]
    picture = sheet("strips", "Unseen images and their edits; x_T is kept.", strips)
    deciding = [one for one in found if one.decides]
    notes = (
        _NOTE.format(context.explicit.inversion, _WAYS[context.papers]),
        *too_few_labels([name for name in context.attributes if name not in names]),
    )
    claim = _claim(deciding)
    summary = f"Edits move images toward those that have the attribute, and keep the rest: {claim.verdict}."
    return Result(tuple(tables), (picture,), (claim,), notes, summary)


def _claim(found: list[Edited]) -> Claim:
    """Claim 6, over attributes."""
    reasons = [one.reason for one in found if not one.holds]
    return Claim(6, verdict(*(one.holds for one in found)), "; ".join(one.words for one in found), "; ".join(reasons))


def _compare(context: EvaluationContext, features: FeatureNetwork, counts: Counts, name: str) -> list[Edited]:
    """An attribute's edits: by the protocol's direction first, then by the other one, then by other systems."""
    positives = context.test.having(name, 1).first(counts.distribution // 2)
    negatives = context.test.having(name, 0).first(counts.distribution)
    edited, others = negatives.at(slice(0, None, 2)), negatives.at(slice(1, None, 2))  # never near its own original
    without, ways = edited.tensor(), (context.papers, not context.papers)
    made = [
        (_WAYS[published], published == context.papers, without, images)
        for published, images in zip(ways, edit(context, without, name, counts.labelled, ways), strict=True)
    ]
    for system, packs in context.systems.edits.items():
        if name in packs:
            own, originals = matched(packs[name], _except(context.test.having(name, 0), others))
            if len(own) < GROUPS:
                what = f"{len(own)} are named like unseen images without it that are not compared with"
                raise DataError(f"edits {system}, {name}: {what}; at least {GROUPS} are needed")
            made.append((system, False, originals.tensor(), own.tensor()))
    have, lack = (features.vectors(images.tensor()) for images in (positives, others))
    between = distances(have, lack, context.seed)
    return [_measured(context, features, name, have, lack, between, one) for one in made]


def _except(images: Images, others: Images) -> Images:
    """The images that are not among the others."""
    return images.at(~np.isin(images.rows, others.rows))


def _measured(
    context: EvaluationContext,
    features: FeatureNetwork,
    name: str,
    have: np.ndarray,
    lack: np.ndarray,
    between: tuple[Estimate, Estimate],
    made: tuple[str, bool, Tensor, Tensor],
) -> Edited:
    """Edited images compared with those that have the attribute, and with those that lack it."""
    way, decides, without, images = made
    seen, seed = features.vectors(images), context.seed
    toward, near = nearer(have, seen, lack, seed), nearer(lack, seen, have, seed)
    pairs = [between, distances(have, seen, seed), distances(lack, seen, seed)]
    smallest = min(len(have), len(lack), len(seen))
    return Edited(name, way, decides, without, images, smallest, pairs, toward, near)


def edit(
    context: EvaluationContext,
    x: Tensor,
    name: str,
    labelled: int,
    ways: Sequence[bool],
    sampling: Sampling | None = None,
) -> list[Tensor]:
    """Images with an attribute's logit set to the median of images that have the attribute; clamped to [-1, 1].

    Args:
        context: gives the model and the directions.
        x: images in [-1, 1].
        name: of the attribute.
        labelled: training images that the directions are fitted to.
        ways: for each result, whether the edit is along w, as published.
        sampling: how to encode and decode; by default `context.explicit`.
    """
    sampling, directions = sampling or context.explicit, context.directions(labelled)
    code = context.encode(x, sampling, f"editing {name}, T = {sampling.steps}")
    changed = (directions.edit(code, name, "median", published=published) for published in ways)
    return [context.model.decode(one, sampling=sampling).cpu().clamp(-1, 1) for one in changed]


def edit_in_turn(context: EvaluationContext, x: Tensor, labelled: int, sampling: Sampling) -> Tensor:
    """Images with one attribute edited in each, taking the attributes in turn, by the protocol's direction."""
    names, ways = list(context.directions(labelled).attributes_), (context.papers,)
    parts = [(name, x[place :: len(names)]) for place, name in enumerate(names) if place < len(x)]
    return torch.cat([edit(context, part, name, labelled, ways, sampling)[0] for name, part in parts])


def _identity(context: EvaluationContext, network: FeatureNetwork, found: list[Edited]) -> Table:
    """Identity kept by an edit, beside that of reconstructions and of different images."""
    rows: list[tuple[Cell, ...]] = []
    back: dict[str, Tensor] = {}
    for one in found:
        if one.decides:
            back[one.name] = context.reconstruct(one.without, f"manipulation: {one.name}, unedited")
        others = (one.made, back[one.name] if one.way in _WAYS.values() else None, one.without.roll(1, 0))
        alike = (None if x is None else mean(network.similarity(one.without, x)) for x in others)
        rows.append((one.name, one.way, *alike))
    header = ("attribute", "edit", "edited", "x_T and z_sem kept", "different images")
    note = f"Cosine similarity of {network.name} embeddings with the unedited image; means, bootstrap intervals."
    return Table("identity", f"{network.name} similarity", header, tuple(rows), note)


def _enough(images: Images, name: str) -> bool:
    return len(images.having(name, 1)) >= LEAST and len(images.having(name, 0)) >= 2 * LEAST


TASK = Task(
    "manipulation",
    "Manipulation",
    "Tables 9, 10, Fig. 5",
    manipulation,
    Counts,
    {6: "Edited images move toward those that have the attribute, and stay near those they came from"},
)
