"""How faithfully are images reconstructed? (Paper Tables 1 and 2.)"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffae.config import Sampling
from diffae.data.images import to_unit
from diffae.diffusion.settings import InversionName
from diffae.errors import DataError
from diffae.evaluation.context import UNDERTRAINED, EvaluationContext
from diffae.evaluation.other_systems import all_matched
from diffae.evaluation.results import Cell, Claim, Result, Table, graded, listed, verdict
from diffae.evaluation.statistics import Estimate, mean
from diffae.evaluation.task import BaselineCounts, ReconstructedCounts, Task
from diffae.evaluation.tasks.shared import about_baselines, about_samplers, against_steps, sheet
from diffae.model import DiffusionAutoencoder

SMALLEST = 6
"""Smallest side of an image in pixels: SSIM's window reaches 5 pixels beyond the border, by reflection."""
MOST_PSNR = 100.0
"""Cap of the PSNR in dB, which is infinite for identical images."""

_WAYS: dict[InversionName, str] = {"exact": "x_T exact", "explicit": "x_T explicit", "official": "x_T as published"}
_ALONE = "z_sem alone, x_T random"
KEPT = ((0.9, "nearly everything"), (0.7, "most of their structure"), (0.4, "their coarse structure"))
"""Bounds of SSIM, in words for the summary."""
_SHOWN = 8
_PICTURED = 20  # T of the pictures


@dataclass(frozen=True)
class ReconstructionQuality:
    """One number per image, for images in [0, 1]."""

    mse: Float[Tensor, " b"]
    """Mean squared error."""
    psnr: Float[Tensor, " b"]
    """Peak signal-to-noise ratio in dB, -10 log10(mse); infinite for identical images."""
    ssim: Float[Tensor, " b"]
    """Structural similarity (Wang et al. 2004): Gaussian window of 11 x 11 pixels, sigma 1.5, K1 = 0.01, K2 = 0.03."""


@torch.inference_mode()
def reconstruction_quality(x: Float[Tensor, "b c h w"], y: Float[Tensor, "b c h w"]) -> ReconstructionQuality:
    """Compare images with their reconstructions, in float64.

    SSIM is torchmetrics' with `data_range=1.0`. Borders are continued by reflection and the mean is over all pixels
    and channels; other programs leave out the 5 outermost pixels, which at 32 x 32 would be half of the image.

    Args:
        x, y: images in [0, 1]; `diffae.data.images.to_unit` converts from [-1, 1].
    Returns:
        float32, on the CPU.
    Raises:
        DataError: different shapes, values outside [0, 1], or a side below 6 pixels.
    """
    from torchmetrics.functional.image.ssim import structural_similarity_index_measure

    _check(x, y)
    x, y = x.detach().cpu().double(), y.detach().cpu().double()
    mse = (x - y).square().mean(dim=(1, 2, 3))
    ssim = structural_similarity_index_measure(x, y, data_range=1.0, reduction="none")
    assert isinstance(ssim, Tensor)  # a pair only if the map is requested as well
    return ReconstructionQuality(mse.float(), (-10 * mse.log10()).float(), ssim.view(-1).float())


def _check(x: Tensor, y: Tensor) -> None:
    if x.shape != y.shape or x.dim() != 4 or len(x) == 0:
        rule = "must be the same (b, c, h, w), with at least one image"
        raise DataError(f"images have shapes {tuple(x.shape)} and {tuple(y.shape)}: they {rule}")
    if min(x.shape[-2:]) < SMALLEST:
        size = f"{x.shape[-2]} x {x.shape[-1]}"
        raise DataError(f"images are {size}: SSIM needs at least {SMALLEST} pixels; enlarge them")
    for image in (x, y):
        low, high = (value.item() for value in image.aminmax())
        if not (low >= 0 and high <= 1):  # also false for NaN
            raise DataError(f"images span {low:.4g}..{high:.4g}: must lie in [0, 1]; use diffae.data.images.to_unit")


@dataclass(frozen=True)
class Counts(ReconstructedCounts, BaselineCounts):
    """How many images are reconstructed, and how the baselines are trained."""


@dataclass(frozen=True)
class Row:
    """Reconstruction by one method."""

    name: str
    steps: int | None
    numbers: int | None
    """Dimensions of the code, if known."""
    calls: float | None
    """Network calls to encode and decode, per image."""
    mse: Estimate
    psnr: Estimate
    ssim: Estimate
    distance: Estimate | None
    errors: Float[np.ndarray, " n"]
    """Mean squared error of each image."""

    def cells(self) -> tuple[Cell, ...]:
        """The row of the table."""
        measured = (self.ssim, *([self.distance] if self.distance else []), self.mse, self.psnr)
        return (self.name, self.steps, self.numbers, None if self.calls is None else round(self.calls), *measured)


def measure(
    context: EvaluationContext,
    name: str,
    x: Float[Tensor, "n c h w"],
    y: Float[Tensor, "n c h w"],
    numbers: int | None,
    *,
    steps: int | None = None,
    calls: float | None = None,
) -> Row:
    """Compare images x with their reconstructions y, both in [-1, 1]; the other arguments are as in `Row`."""
    quality = reconstruction_quality(to_unit(x), to_unit(y))
    distance = mean(context.perceptual.distance(x, y)) if context.perceptual else None
    psnr = mean(np.minimum(quality.psnr.numpy(), MOST_PSNR))
    errors = quality.mse.numpy()
    return Row(name, steps, numbers, calls, mean(errors), psnr, mean(quality.ssim.numpy()), distance, errors)


def reconstruction(context: EvaluationContext, counts: Counts) -> Result:
    """Every way to encode, at every T, beside the baselines."""
    x = context.unseen(counts.reconstructed, "reconstruction")
    others = {name: all_matched(name, pack, context.test.first(len(x)))
              for name, pack in context.systems.reconstructions.items()}  # fmt: skip
    rows, pictures = [], [("input", x[:_SHOWN])]
    for whose, model in context.models.items():
        for row, y in _diffusion(context, whose, model, x):
            rows.append(row)
            pictures += [(row.name, y[:_SHOWN])] if row.steps == _PICTURED else []
    for baseline in context.baselines(counts.learnt, counts.baseline_images):
        y, size = baseline.reconstruct(x)
        rows.append(measure(context, baseline.name, x, y, size))
        pictures.append((baseline.name, y[:_SHOWN]))
    for name, y in ((name, images.tensor()) for name, images in others.items()):
        rows.append(measure(context, name, x, y, None))
        pictures.append((name, y[:_SHOWN]))
    distance = (context.perceptual.distance_name,) if context.perceptual else ()
    header = ("decoded from", "T", "numbers", "network calls", "SSIM", *distance, "MSE", "PSNR dB")
    note = f"Means over {len(x)} unseen images in [0, 1]; PSNR capped at {MOST_PSNR:.0f} dB."
    table = Table("quality", "Reconstruction", header, tuple(row.cells() for row in rows), note)
    lines = {one.name: {row.steps: row.mse for row in rows if row.name == one.name and row.steps}
             for one in rows if one.steps}  # fmt: skip
    caption = f"Mean squared error against T, with 95 % intervals; {len(x)} images."
    return Result(
        (table,),
        (
            sheet("sheet", f"Unseen images and their reconstructions (T = {_PICTURED}).", pictures),
            against_steps("mse", caption, lines, "MSE, images in [0, 1]", "xy"),
        ),
        _claims(rows, "official" if context.papers else "explicit") + _against_others(rows, max(context.steps)),
        _notes(context, counts),
        _summary(rows),
    )


def _summary(rows: list[Row]) -> str:
    """How exact both codes are, and what z_sem alone keeps, at the largest T."""
    found = {row.name: row for row in rows}  # the last one of each name
    exact, alone = found.get(f"ours: {_WAYS['exact']}"), found.get(f"ours: {_ALONE}")
    said = ""
    if exact:
        levels = 255 * exact.mse.value**0.5
        exactness = "to the last grey level" if levels < 0.5 else f"with an error of {levels:.2g} of 255 grey levels"
        said = f"From (z_sem, x_T), unseen images come back {exactness} (T = {exact.steps}). "
    if alone:
        said += f"z_sem alone keeps {graded(alone.ssim.value, KEPT, 'little of them')} (SSIM {alone.ssim.value:.2f})."
    return said.strip()


def _diffusion(
    context: EvaluationContext, whose: str, model: DiffusionAutoencoder, x: Tensor
) -> Iterator[tuple[Row, Tensor]]:
    """Rows and images of each inversion at each T, and, for a model with an encoder, of z_sem alone."""
    d, pixels = model.config.z_sem_channels, x[0].numel()
    for way, words in _WAYS.items():
        name = f"{whose}: {words}"
        for steps in context.steps:
            sampling = Sampling.official(steps) if way == "official" else Sampling(steps, inversion=way)
            code = context.encode(x, sampling, f"reconstruction: {whose}, {words}, T = {steps}", model)
            assert code.calls is not None
            y = model.decode(code, sampling=sampling).cpu()
            calls = code.calls.float().mean().item() + steps
            yield measure(context, name, x, y, d + pixels, steps=steps, calls=calls), y
    if not d:
        return
    z_sem, name = model.encode_semantic(x), f"{whose}: {_ALONE}"
    for steps in context.steps:
        y = model.decode(
            z_sem=z_sem, sampling=context.at(steps, model), generator=context.generator("reconstruction")
        ).cpu()
        yield measure(context, name, x, y, d, steps=steps, calls=steps), y


def _claims(rows: list[Row], way: InversionName) -> tuple[Claim, ...]:
    """Claim 3, by the same inversion for both: explicit, or by the paper's protocol the published one."""
    found = {(row.name.split(":")[0], row.steps): row for row in rows if _WAYS[way] in row.name}
    common = sorted(steps for whose, steps in found if whose == "DDIM" and steps)
    if not common:
        return ()

    def beats(ours: int, theirs: int) -> bool | None:
        return mean(found["DDIM", theirs].errors - found["ours", ours].errors).above(0)

    most = max(common)
    few = min(20, most)
    equal, fewer = [beats(t, t) for t in common], beats(few, most)
    each = ", ".join(
        f"T = {t}: {found['ours', t].mse.value:.2g} against {found['DDIM', t].mse.value:.2g}" for t in common
    )
    worse = [str(t) for t, better in zip(common, equal, strict=True) if not better]
    reasons = [f"not significantly better at T = {listed(worse)}"] if worse else []
    if not fewer:
        enough = [steps for steps in common if beats(steps, most)]
        first = f"DDIM's error at T = {most} is first beaten at T = {enough[0]}" if enough else "no T is enough"
        reasons.append(f"T = {few} is too few for {way} inversion: {first}")
    evidence = f"MSE with {way} inversion, ours against DDIM: {each}"
    return (Claim(3, verdict(*equal, fewer), evidence, "; ".join(reasons)),)


def _against_others(rows: list[Row], most: int) -> tuple[Claim, ...]:
    """Claim 13, with exact x_T at the largest T; undertrained autoencoders do not count."""
    ours = next((row for row in rows if row.steps == most and row.name == f"ours: {_WAYS['exact']}"), None)
    others = [row for row in rows if row.steps is None and not row.name.endswith(UNDERTRAINED)]
    if ours is None or not others:
        return ()
    gains = [mean(other.errors - ours.errors).above(0) for other in others]
    each = ", ".join(f"{other.name} {other.mse.value:.2g}" for other in others)
    behind = [other.name for other, better in zip(others, gains, strict=True) if not better]
    reason = f"not significantly better than {listed(behind)}" if behind else ""
    return (Claim(13, verdict(*gains), f"MSE from (z_sem, x_T) at T = {most} {ours.mse.value:.2g}; {each}", reason),)


def _notes(context: EvaluationContext, counts: Counts) -> tuple[str, ...]:
    missing = () if context.ddim else ("No DDIM baseline was given (--ddim), so claim 3 was not tested.",)
    return (
        "Exact inversion solves the equation of each decoding step; explicit inversion evaluates the network at the "
        "wrong end of each step; inversion as published also shifts the levels and clips.",
        f"PCA, autoencoder and VAE have {context.model.config.z_sem_channels} dimensions, as z_sem has. The "
        "last two use the model's encoder architecture and training loop. "
        + about_baselines(context, counts.baseline_images),
        *about_samplers(context),
        *missing,
    )


TASK = Task(
    "reconstruction",
    "Reconstruction",
    "Tables 1, 2",
    reconstruction,
    Counts,
    {
        3: "Reconstruction beats DDIM at equal T, and T = 20 beats DDIM's T = 100",
        13: "Reconstruction from (z_sem, x_T) beats every other autoencoder",
    },
)
