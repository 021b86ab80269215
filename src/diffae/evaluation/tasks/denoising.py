"""How early does the decoder know the image? The error of x0_hat along the path (paper Section 5.5, Fig. 6)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffae.config import Sampling
from diffae.data.images import to_unit
from diffae.errors import DataError
from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.results import Claim, Picture, Result, Table, verdict
from diffae.evaluation.statistics import mean
from diffae.evaluation.task import Task, count
from diffae.evaluation.tasks.generation import CLAIM_5
from diffae.evaluation.tasks.shared import NO_DDIM
from diffae.latent.codes import Code
from diffae.model import DiffusionAutoencoder, parts
from diffae.plotting import curves, labelled_rows, tiles_of

_SHOWN = 8  # levels in the picture


@dataclass(frozen=True)
class DenoisingPath:
    """The decoder's prediction of the image at each level of the path."""

    levels: tuple[int, ...]
    """t, from T to 1."""
    mse: Float[Tensor, "n steps"]
    """Of x0_hat, clamped, against the image; images in [0, 1]."""
    shown: Float[Tensor, "shown steps c h w"]
    """x0_hat of the first images, in [-1, 1]."""


def denoising_path(
    model: DiffusionAutoencoder,
    x_0: Float[Tensor, "n c h w"],
    code: Code,
    sampling: Sampling | None = None,
    shown: int = 2,
) -> DenoisingPath:
    """Decode codes and compare x0_hat at every level with the images they were made from.

    Args:
        model: with or without an encoder (the DDIM baseline).
        x_0: the images, in [-1, 1].
        code: their codes, from `model.encode` with the same sampling.
        sampling: how to decode.
        shown: images whose x0_hat is kept.
    Raises:
        DataError: the number of codes differs from that of images.
    """
    if len(code) != len(x_0):
        raise DataError(f"codes of {len(code)} images for {len(x_0)} images: give one code for each image")
    errors, kept, levels = [], [], []
    for rows in parts(len(x_0)):
        seen: list[tuple[int, Tensor]] = []
        model.decode(code[rows], sampling=sampling, callback=lambda t, x, seen=seen: seen.append((t, x.cpu())))
        target = to_unit(x_0[rows].cpu())
        errors.append(torch.stack([(to_unit(x) - target).square().mean(dim=(1, 2, 3)) for _, x in seen], dim=1))
        kept = kept or [x[:shown] for _, x in seen]
        levels = [t for t, _ in seen]
    return DenoisingPath(tuple(levels), torch.cat(errors), torch.stack(kept, dim=1))


@dataclass(frozen=True)
class Counts:
    """How many images are decoded."""

    denoised: int = count(8, 256, "test")
    """Unseen images."""


def denoising(context: EvaluationContext, counts: Counts) -> Result:
    """Error of x0_hat at each level, for the model and DDIM, and pictures of the path."""
    x, sampling = context.unseen(counts.denoised, "denoising"), context.sampling
    paths: dict[str, DenoisingPath] = {}
    for whose, model in context.models.items():
        paths[whose] = denoising_path(model, x, context.encode(x, sampling, f"denoising: {whose}", model), sampling)
    errors = {whose: [mean(column) for column in path.mse.T.numpy()] for whose, path in paths.items()}
    levels = paths["ours"].levels
    rows = tuple((t, *values) for t, *values in zip(levels, *errors.values(), strict=True))
    how = f"T = {sampling.steps}, x_T by {sampling.inversion} inversion"
    note = f"MSE of x0_hat against the image, in [0, 1]; {len(x)} unseen images, {how}."
    table = Table("error", "Error of x0_hat along the path from x_T", ("t", *errors), rows, note)
    curve = curves({whose: (levels, values) for whose, values in errors.items()}, "level t", "MSE of x0_hat")
    caption = f"Error of x0_hat against the level t, from noise (right) to image, with 95 % intervals; {len(x)} images."
    pictures = (Picture("error", caption, curve, chart=True), _strips(paths))
    if "DDIM" not in paths:
        return Result((table,), pictures, (), (NO_DDIM,))
    means = {whose: path.mse.mean().item() for whose, path in paths.items()}
    evidence = f"mean error of x0_hat along the path {means['ours']:.3g}, DDIM {means['DDIM']:.3g}"
    behind = [t for t, ours, theirs in zip(levels, *errors.values(), strict=True) if ours.value >= theirs.value]
    holds = mean((paths["DDIM"].mse - paths["ours"].mse).mean(dim=1).numpy()).above(0)
    where = f"at {len(behind)} of {len(levels)} levels, t = {behind[-1]} to {behind[0]}" if behind else "nowhere"
    reason = "" if holds else f"ours is behind {where}; {len(x)} images"
    return Result((table,), pictures, (Claim(5, verdict(holds), evidence, reason),))


def _strips(paths: dict[str, DenoisingPath]) -> Picture:
    levels = paths["ours"].levels
    chosen = np.unique(np.linspace(0, len(levels) - 1, _SHOWN).round().astype(int))
    captions = [f"t = {levels[place]}" for place in chosen]
    rows = [
        (f"{whose}\nimage {image + 1}", tiles_of(frames[chosen], captions))
        for whose, path in paths.items()
        for image, frames in enumerate(path.shown)
    ]
    return Picture("strips", "x0_hat along the path.", labelled_rows(rows))


TASK = Task("denoising", "Denoising", "Fig. 6", denoising, Counts, CLAIM_5)
