"""Are samples new? Their nearest training images, compared with those of unseen images (paper Appendix C, Fig. 9)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from diffae.data.images import to_unit
from diffae.errors import DataError
from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.material import Images
from diffae.evaluation.results import Claim, Picture, Result, Table, verdict
from diffae.evaluation.statistics import mean
from diffae.evaluation.task import DistributionCounts, LabelledCounts, Task, count
from diffae.plotting import histograms, labelled_rows, tiles_of

NEIGHBOURS = 50
"""Nearest training images that are looked up; the distance of the first is compared with those of the others."""
SIGNIFICANT = 0.01
"""A p-value below this, corrected for the number of measures, counts as a sign of copying."""

View = Callable[[Float[Tensor, "n c h w"]], Float[Tensor, "n p"]]
"""Images in [-1, 1] => vectors whose mean squared difference is the distance."""
Distance = Callable[[Float[Tensor, "n c h w"], Float[Tensor, "n c h w"]], Float[np.ndarray, " n"]]
"""Of pairs of images in [-1, 1], for instance LPIPS."""

_STEPS = 20
_SHOWN, _NEAREST = 6, 5
_FEW = 0.25  # share of copies among the samples that the test must be able to notice for claim 7


@dataclass(frozen=True)
class Nearest:
    """The nearest training images of n images, nearest first."""

    rows: Int[np.ndarray, "n k"]
    """Positions in the training set."""
    distances: Float[np.ndarray, "n k"]
    """Mean squared differences."""

    @property
    def relative(self) -> Float[np.ndarray, " n"]:
        """Distance to the nearest over the mean distance to the others: near 1 for a new image, near 0 for a copy.

        Unlike the distance itself, it is not smaller for smooth images, which are near to everything (as in Carlini et
        al., "Extracting training data from diffusion models", 2023).
        """
        others = self.distances[:, 1:].mean(axis=1)
        return self.distances[:, 0] / np.maximum(others, np.finfo(np.float32).tiny)


@torch.no_grad()
def nearest(views: Float[Tensor, "v n p"], training: Iterable[Float[Tensor, "m p"]], k: int = NEIGHBOURS) -> Nearest:
    """The k training vectors with the smallest mean squared difference to each of n vectors.

    Args:
        views: the same n images seen in v ways, for instance mirrored; the nearer view counts.
        training: the training vectors in blocks, in order.
        k: neighbours.
    Raises:
        DataError: fewer than 2 training vectors.
    """
    distances = views.new_zeros(views.shape[1], 0)
    rows = torch.zeros(views.shape[1], 0, dtype=torch.int64, device=views.device)
    start = 0
    for part in training:
        part = part.to(views)
        found = torch.stack([torch.cdist(view, part, compute_mode="use_mm_for_euclid_dist") for view in views])
        found = found.amin(dim=0).square() / part.shape[1]
        here = torch.arange(start, start + len(part), device=rows.device).expand(len(found), -1)
        distances, rows = torch.cat([distances, found], dim=1), torch.cat([rows, here], dim=1)
        distances, order = distances.topk(min(k, distances.shape[1]), largest=False)
        rows, start = rows.gather(1, order), start + len(part)
    if start < 2:
        raise DataError(f"{start} training images are too few to compare with: at least 2 are needed")
    return Nearest(rows.cpu().numpy(), distances.cpu().double().numpy())


@dataclass(frozen=True)
class Comparison:
    """Samples and held-out images compared with the training set, by one measure of distance."""

    samples: Nearest
    held_out: Nearest

    @classmethod
    def of(
        cls,
        samples: Float[Tensor, "n c h w"],
        held_out: Float[Tensor, "m c h w"],
        vectors: View,
        training: Iterable[Float[Tensor, "k p"]],
        *,
        mirror: bool = True,
    ) -> Comparison:
        """Compare both in one pass over the training set.

        Args:
            samples, held_out: images in [-1, 1].
            vectors: maps images to the vectors that are compared.
            training: vectors of the training images in blocks, in order.
            mirror: whether an image and its mirror image count as the same.
        """
        both = torch.cat([samples, held_out])
        views = (both, both.flip(-1)) if mirror else (both,)
        found = nearest(torch.stack([vectors(view) for view in views]), training)
        halves = (slice(len(samples)), slice(len(samples), None))
        return cls(*(Nearest(found.rows[half], found.distances[half]) for half in halves))

    def reranked(
        self, samples: Float[Tensor, "n c h w"], held_out: Float[Tensor, "m c h w"], training: Images, by: Distance
    ) -> Comparison:
        """The neighbours found, ordered anew by a distance that is too slow for all training images.

        Args:
            samples, held_out: the images compared, in [-1, 1].
            training: the images that neighbours were looked for among.
            by: the distance; an image and its mirror image count as the same.
        """
        return Comparison(
            _reranked(samples, self.samples, training, by), _reranked(held_out, self.held_out, training, by)
        )

    @property
    def p_value(self) -> float:
        """One-sided Mann-Whitney U test of whether the samples' relative distances are the smaller ones.

        The data-copying test of Meehan et al. ("A non-parametric test to detect data-copying in generative models",
        2020), on relative distances.
        """
        from scipy.stats import mannwhitneyu

        return float(mannwhitneyu(self.samples.relative, self.held_out.relative, alternative="less").pvalue)

    def noticed(self, measures: int) -> int:
        """The smallest number of exact copies among the samples that the test would notice.

        Args:
            measures: number of measures that the test is corrected for.
        """
        from scipy.stats import mannwhitneyu

        samples = np.sort(self.samples.relative)[::-1]
        for copies in range(1, len(samples) + 1):
            planted = np.where(np.arange(len(samples)) < copies, 0.0, samples)  # in place of the farthest
            p = mannwhitneyu(planted, self.held_out.relative, alternative="less").pvalue
            if p * measures < SIGNIFICANT:
                return copies
        return len(samples) + 1

    @property
    def nearer(self) -> float:
        """Share of pairs (sample, held-out image) in which the sample is nearer; 0.5 if both are alike."""
        below = self.samples.relative[:, None] < self.held_out.relative
        equal = self.samples.relative[:, None] == self.held_out.relative
        return float(below.mean() + equal.mean() / 2)

    @property
    def closest(self) -> int:
        """Number of samples whose relative distance is below that of every held-out image."""
        return int((self.samples.relative < self.held_out.relative.min()).sum())


def _reranked(images: Tensor, found: Nearest, training: Images, by: Distance) -> Nearest:
    distances, rows = [], []
    for image, near in zip(images.split(1), found.rows, strict=True):
        others = training.at(near).tensor()
        here = np.minimum(*(by(view.expand(others.shape), others) for view in (image, image.flip(-1))))
        order = np.argsort(here, kind="stable")
        distances.append(here[order].astype(np.float64))
        rows.append(near[order])
    return Nearest(np.stack(rows), np.stack(distances))


def copying(comparisons: Iterable[Comparison]) -> float:
    """The smallest p-value over several measures, times their number (Bonferroni), at most 1."""
    values = [comparison.p_value for comparison in comparisons]
    return min(1.0, min(values) * len(values))


# ---------------------------------------------------------------------- the task


@dataclass(frozen=True)
class Counts(DistributionCounts, LabelledCounts):
    """How many samples are compared with how many training images."""

    known: int = count(1_000, 10_000_000, "train")
    """Training images."""


def memorisation(context: EvaluationContext, counts: Counts) -> Result:
    """Nearest training images of samples and of unseen images, and a test of whether samples are nearer."""
    total = min(counts.distribution, 500)
    drawn = context.sample_z_sem(total, "memorisation", context.prior_steps(_STEPS))
    x = context.decode(drawn, _STEPS, "memorisation")
    unseen, known = context.unseen(total, "memorisation", least=10), context.train.first(counts.known)
    found = {
        name: Comparison.of(x, unseen, view, map(view, context.blocks(known, f"memorisation: {name}")))
        for name, view in _views(context, counts).items()
    }
    perceptual = context.perceptual
    if perceptual:
        name = f"{perceptual.distance_name}, of the {NEIGHBOURS} nearest by pixels"
        found[name] = found["pixels"].reranked(x, unseen, known, perceptual.distance)
    rows = tuple(
        (name, mean(one.samples.relative), mean(one.held_out.relative), one.nearer, one.closest, one.p_value)
        for name, one in found.items()
    )
    note = (
        f"Distance to the nearest of {len(known):,} training images, or their mirror images, over the mean of the next "
        f"49: near 0 is a copy. {len(x)} samples, T = {_STEPS}; {len(unseen)} unseen images. Nearer: share of pairs in "
        "which the sample is nearer; 0.5 if samples are like unseen images. p: one-sided Mann-Whitney U test, not "
        "corrected for the number of distances."
    )
    header = ("distance by", "samples", "unseen images", "nearer", "nearer than all unseen", "p")
    table = Table("nearest", "The nearest training image", header, rows, note)
    pixels = found["pixels"]
    relative = {"samples": pixels.samples.relative.tolist(), "unseen images": pixels.held_out.relative.tolist()}
    drawn = histograms(relative, "distance of the nearest over that of the next 49")
    caption = f"Distance to the nearest training image, by pixels; {len(x)} samples, {len(unseen)} unseen images."
    pictures = (
        Picture("nearest", "Samples, and their nearest training images.", _sheet(known, x, found)),
        Picture("distances", caption, drawn, chart=True),
    )
    claim = _claim(found, copying(found.values()), len(x))
    return Result((table,), pictures, (claim,), summary=f"Samples are not copies of training images: {claim.verdict}.")


def _claim(found: dict[str, Comparison], p: float, total: int) -> Claim:
    """Claim 7; not decided unless the test would have noticed a quarter of copies."""
    if p < SIGNIFICANT:
        closest, one = min(found.items(), key=lambda pair: pair[1].p_value)
        reason = (
            f"by {closest}, the sample is nearer than the unseen image in {one.nearer:.0%} of the pairs, and "
            f"{one.closest} of {total} samples are nearer than every unseen image"
        )
        return Claim(7, verdict(False), f"p = {p:.2g}, corrected for {len(found)} distances", reason)
    noticed = max(one.noticed(len(found)) for one in found.values())
    evidence = (
        f"samples are no nearer to training images than unseen images are (p = {p:.2g}, corrected for {len(found)} "
        f"distances); of {total} samples, {noticed} copies would have been noticed"
    )
    enough = noticed <= _FEW * total
    reason = "" if enough else f"that is more than {_FEW:.0%}; take more samples"
    return Claim(7, verdict(enough or None), evidence, reason)


def _views(context: EvaluationContext, counts: Counts) -> dict[str, View]:
    """By pixels in [0, 1], by normalised z_sem, and by features if there is a feature network."""
    typical = context.z_sem(context.train.first(counts.labelled))
    centre, spread, model = typical.mean(0), typical.std(0).clamp(min=1e-6), context.model
    views: dict[str, View] = {
        "pixels": lambda x: to_unit(x).flatten(1),
        "z_sem": lambda x: (model.encode_semantic(x).cpu() - centre) / spread,
    }
    network = context.features
    if network:
        views[f"{network.name} features"] = lambda x: torch.from_numpy(network.vectors(x))
    return views


def _sheet(known: Images, x: Tensor, found: dict[str, Comparison]) -> Image.Image:
    """A sample and its neighbours by each distance, as in Fig. 9."""
    rows = []
    for index, image in enumerate(x[:_SHOWN].split(1)):
        for name, one in found.items():
            near = known.at(one.samples.rows[index, :_NEAREST]).tensor()
            captions = [f"{distance:.3g}" for distance in one.samples.distances[index, :_NEAREST]]
            label = f"sample {index + 1}\n{name.split(',')[0]}"
            rows.append((label, [*tiles_of(image), *tiles_of(near, captions)]))
    return labelled_rows(rows)


TASK = Task(
    "memorisation",
    "Memorisation",
    "App. C, Fig. 9",
    memorisation,
    Counts,
    {7: "The model does not memorise its training images"},
)
