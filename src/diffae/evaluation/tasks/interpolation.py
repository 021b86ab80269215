"""How smooth is interpolation? Perceptual path length (paper Section 5.2, Fig. 4, Appendix F, Eq. 10)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffae.config import Sampling
from diffae.diffusion.interpolation import lerp, slerp
from diffae.errors import DataError, require
from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.results import Claim, Result, Table, verdict
from diffae.evaluation.statistics import mean
from diffae.evaluation.task import Task, count
from diffae.evaluation.tasks.shared import NO_DDIM, sheet
from diffae.model import Code, DiffusionAutoencoder

EPSILON = 1e-4
"""The paper's step along the path."""

Distance = Callable[[Tensor, Tensor], np.ndarray]
"""Between pairs of images (n, c, h, w) in [-1, 1]; quadratic in small differences, as LPIPS is."""

_STRIPS = 3
_LEAST = 3  # images in a ring: with two, both pairs would be the same
_FRAMES = 9


def squared_error(a: Float[Tensor, "n c h w"], b: Float[Tensor, "n c h w"]) -> Float[np.ndarray, " n"]:
    """Mean squared difference of images in [0, 1], given in [-1, 1]: a distance that needs no feature network."""
    return (
        ((a.cpu().double() - b.cpu().double()) / 2).square().mean(dim=(1, 2, 3)).numpy()
    )  # [-1, 1] => [0, 1] halves it


def path_length(
    model: DiffusionAutoencoder,
    a: Code,
    b: Code,
    distance: Distance,
    *,
    generator: torch.Generator,
    sampling: Sampling | None = None,
    epsilon: float = EPSILON,
    progress: Callable[[int], None] | None = None,
) -> Float[np.ndarray, " n"]:
    """Eq. 10 for each pair of codes: distance of the images at t and t + epsilon, over epsilon squared; t ~ U(0, 1).

    z_sem is interpolated linearly and x_T spherically; for a model without an encoder (the DDIM baseline) x_T alone.
    The mean over pairs is the perceptual path length.

    Args:
        model: decodes.
        a, b: codes of n images each, with x_T; row i of `a` is paired with row i of `b`.
        distance: between pairs of images.
        generator: source of t, on the CPU.
        sampling: how to decode.
        epsilon: step along the path, in (0, 1).
        progress: called with the number of pairs done so far.
    Raises:
        DataError: codes that differ in number or have no x_T.
        ConfigError: an epsilon outside (0, 1).
    """
    require(0 < epsilon < 1, "epsilon", epsilon, "must lie in (0, 1)")
    if len(a) != len(b) or a.x_T is None or b.x_T is None:
        raise DataError(f"codes of {len(a)} and {len(b)} images: path length takes as many of each, with their x_T")
    start = torch.rand(len(a), generator=generator, dtype=torch.float64) * (1 - epsilon)
    lengths = []
    for rows in torch.arange(len(a)).split(32):
        ends = [_between(a, b, rows, start[rows] + step) for step in (0.0, epsilon)]
        x, y = (model.decode(code, sampling=sampling).cpu() for code in ends)
        lengths.append(distance(x, y) / epsilon**2)
        if progress:
            progress(int(rows[-1]) + 1)
    return np.concatenate(lengths)


def _between(a: Code, b: Code, rows: Tensor, weight: Float[Tensor, " n"]) -> Code:
    assert a.x_T is not None
    assert b.x_T is not None
    pairs = list(zip(rows.tolist(), weight.split(1), strict=True))
    # weights in float64: t + epsilon must differ from t by epsilon, not by epsilon rounded
    x_T = torch.cat([slerp(a.x_T[i : i + 1].double(), b.x_T[i : i + 1].double(), w) for i, w in pairs]).float()
    if a.z_sem is None or b.z_sem is None:
        return Code(None, x_T)
    z_sem = torch.cat([lerp(a.z_sem[i : i + 1].double(), b.z_sem[i : i + 1].double(), w) for i, w in pairs])
    return Code(z_sem.float(), x_T)


@dataclass(frozen=True)
class Counts:
    """How many paths are measured."""

    pairs: int = count(12, 512, "test")
    """Pairs of unseen images."""


def interpolation(context: EvaluationContext, counts: Counts) -> Result:
    """Path length between neighbours among unseen images, for the model and DDIM, and interpolated images."""
    x = context.unseen(max(counts.pairs, _LEAST), "interpolation", least=_LEAST)
    sampling, perceptual = context.sampling, context.perceptual
    distances: dict[str, Distance] = {"pixel path length": squared_error}
    if perceptual:
        distances[perceptual.path_length_name] = perceptual.distance
    lengths: dict[tuple[str, str], np.ndarray] = {}
    strips = []
    for whose, model in context.models.items():
        code = context.encode(x, sampling, f"interpolation: {whose}", model)
        other = code[torch.arange(len(x)).roll(-1)]
        for name, distance in distances.items():
            with context.progress(f"interpolation: {whose}, {name}", len(x)) as done:
                generator = context.generator("interpolation")
                lengths[whose, name] = path_length(
                    model, code, other, distance, generator=generator, sampling=sampling, progress=done
                )
        for pair in range(min(_STRIPS, len(x))):
            frames = model.interpolate(code[pair : pair + 1], other[pair : pair + 1], _FRAMES, sampling)
            strips.append((f"{whose}\npair {pair + 1}", frames))
    rows = tuple((name, *(mean(lengths[whose, name]) for whose in context.models)) for name in distances)
    note = (
        f"Eq. 10 with epsilon = {EPSILON:g} over {len(x)} pairs of {len(x)} unseen images, each and the next, "
        f"T = {sampling.steps}, x_T by {sampling.inversion} inversion; z_sem is interpolated linearly, x_T "
        "spherically. Shorter is smoother. The paper's perceptual distance is that of VGG16 (--perceptual lpips-vgg)."
    )
    table = Table("path-length", "Path length", ("distance", *context.models), rows, note)
    picture = sheet("strips", "From one unseen image to another.", strips, _FRAMES)
    claims = (_claim(lengths, list(distances)),) if context.ddim else ()
    return Result((table,), (picture,), claims, () if claims else (NO_DDIM,))


def _claim(lengths: dict[tuple[str, str], np.ndarray], distances: list[str]) -> Claim:
    """Claim 2, by the perceptual distance if there is one."""
    *others, name = distances
    ratio = {one: lengths["DDIM", one].mean() / lengths["ours", one].mean() for one in distances}
    ours, theirs = lengths["ours", name], lengths["DDIM", name]
    evidence = f"{name}: ours {ours.mean():.3g}, DDIM {theirs.mean():.3g}, {ratio[name]:.2f} times as long"
    holds = mean(theirs - ours).above(0)
    elsewhere = "".join(f"; by {one} DDIM's is {ratio[one]:.2f} times as long" for one in others)
    reason = f"ours is the longer in {np.mean(ours > theirs):.0%} of the pairs{elsewhere}"
    return Claim(2, verdict(holds), evidence, "" if holds else reason)


TASK = Task(
    "interpolation",
    "Interpolation",
    "Fig. 4, App. F",
    interpolation,
    Counts,
    {2: "Interpolating z_sem is smoother than interpolating DDIM's x_T"},
    paper={"pairs": 200},
)
