"""Which images is the model not made for, and what reveals them? (Paper Appendix K.)"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy.stats import kstest
from torch import Tensor

from diffae.config import Sampling
from diffae.data.images import to_tensor, to_unit
from diffae.errors import DataError
from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.results import Claim, Picture, Result, Table, listed, verdict
from diffae.evaluation.statistics import Estimate, auroc, mean
from diffae.evaluation.task import LabelledCounts, Task, count
from diffae.evaluation.tasks.shared import sheet
from diffae.model import Code, DiffusionAutoencoder
from diffae.plotting import histograms

_INSIDE = "unseen"
_OUTSIDE = "out-of-distribution"
_ABOUT_X_T = ("x_T not normal", "x_T correlated")


def shifted(x: Float[Tensor, "n c h w"], generator: torch.Generator) -> dict[str, Float[Tensor, "n c h w"]]:
    """The images, in [-1, 1], changed in several ways so that they leave the training distribution, by name."""
    half = x.shape[-1] // 2
    corners = torch.randperm(4, generator=generator)
    while bool((corners == torch.arange(4)).all()):
        corners = torch.randperm(4, generator=generator)
    quarters = [x[..., i * half : (i + 1) * half, j * half : (j + 1) * half] for i in (0, 1) for j in (0, 1)]
    a, b, c, d = (quarters[int(place)] for place in corners)
    shuffled = torch.cat([torch.cat([a, b], dim=-1), torch.cat([c, d], dim=-1)], dim=-2)
    noise = torch.randn(x.shape, generator=generator)
    return {
        "upside down": x.flip(-2),
        "negative": -x,
        "quarters shuffled": F.pad(shuffled, (0, x.shape[-1] - 2 * half, 0, x.shape[-2] - 2 * half), "replicate"),
        "blurred": F.interpolate(F.avg_pool2d(x, 4), x.shape[-2:], mode="bilinear"),
        "noisy": (x + 0.4 * noise).clamp(-1, 1),
    }


def textures(count: int, channels: int, size: int, generator: torch.Generator) -> Float[Tensor, "n c h w"]:
    """Synthetic out-of-distribution images: smooth random colour fields under a random grating; in [-1, 1]."""
    coarse = torch.randn((count, channels, 3, 3), generator=generator)
    field = F.interpolate(coarse, (size, size), mode="bicubic")
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    angle, frequency, phase = (torch.rand((count, 1, 1, 1), generator=generator) for _ in range(3))
    along = torch.cos(angle * 2 * torch.pi) * x + torch.sin(angle * 2 * torch.pi) * y
    grating = torch.sin(2 * torch.pi * ((2 + 8 * frequency) * along + phase))
    return (0.5 * field + 0.6 * grating).clamp(-1, 1)


def scores(
    model: DiffusionAutoencoder,
    x_0: Float[Tensor, "n c h w"],
    *,
    generator: torch.Generator,
    sampling: Sampling | None = None,
    typical: Float[Tensor, "m d"] | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Float[np.ndarray, " n"]]:
    """How unusual each image is, by several measures; higher means less like the training images.

    Args:
        model: with an encoder.
        x_0: images in [-1, 1].
        generator: source of the random x_T, on the CPU.
        sampling: how to encode and decode.
        typical: z_sem of training images.
        progress: called with the number of images encoded so far.
    Returns:
        "error of z_sem alone": mean squared error of images decoded from z_sem and random x_T, images in [0, 1];
        "x_T not normal": Kolmogorov-Smirnov distance of x_T's values from N(0, 1);
        "x_T correlated": correlation of neighbouring values of x_T, absolute, mean of both directions;
        "z_sem unusual": Mahalanobis distance of z_sem from `typical`, if given.
    """
    code = model.encode(x_0, sampling, progress=progress)
    assert code.z_sem is not None
    back = model.decode(z_sem=code.z_sem, generator=generator, sampling=sampling).cpu()
    error = (to_unit(back) - to_unit(x_0.cpu())).square().mean(dim=(1, 2, 3)).double().numpy()
    found = {"error of z_sem alone": error, **noise_scores(code)}
    if typical is not None:
        found["z_sem unusual"] = mahalanobis(code.z_sem.cpu(), typical.cpu())
    return found


def noise_scores(code: Code) -> dict[str, Float[np.ndarray, " n"]]:
    """How far the x_T of each image is from N(0, I): the distribution of its values, and their correlation."""
    assert code.x_T is not None
    x_T = code.x_T.cpu().double()
    distance = np.array([kstest(row.numpy(), "norm").statistic for row in x_T.flatten(1)])
    return {"x_T not normal": distance, "x_T correlated": _neighbours(x_T).numpy()}


def _neighbours(x: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    x = x - x.mean(dim=(2, 3), keepdim=True)
    power = x.square().mean(dim=(1, 2, 3)).clamp(min=1e-12)
    across = (x[..., 1:] * x[..., :-1]).mean(dim=(1, 2, 3)) / power
    down = (x[..., 1:, :] * x[..., :-1, :]).mean(dim=(1, 2, 3)) / power
    return (across.abs() + down.abs()) / 2


def mahalanobis(z: Float[Tensor, "n d"], typical: Float[Tensor, "m d"]) -> Float[np.ndarray, " n"]:
    """Mahalanobis distance of each z from the distribution of `typical`.

    The correlation matrix is shrunk towards the identity (Ledoit and Wolf), so that m may be small.

    Raises:
        DataError: fewer than 2 typical codes.
    """
    from sklearn.covariance import LedoitWolf

    if len(typical) < 2:
        raise DataError(f"{len(typical)} typical codes: their covariance needs at least 2")
    mean, std = typical.double().mean(0), typical.double().std(0)
    typical_norm, z_norm = (((x.double() - mean) / std.clamp(min=1e-12)).numpy() for x in (typical, z))
    return np.sqrt(LedoitWolf().fit(typical_norm).mahalanobis(z_norm))


@dataclass(frozen=True)
class Counts(LabelledCounts):
    """How many images are scored."""

    outliers: int = count(20, 256, "test")
    """Images of each kind."""


def out_of_distribution(context: EvaluationContext, counts: Counts) -> Result:
    """Scores of unseen, shifted and out-of-distribution images, and how well each score separates them."""
    x = context.unseen(counts.outliers, _OUTSIDE, least=8)
    outside = _outside(context, len(x))
    kinds: dict[str, Tensor] = {_INSIDE: x, **shifted(x, context.generator("shifts")), **outside}
    found = _scores(context, counts, kinds)
    inside = found.pop(_INSIDE)
    areas = {kind: {m: _area(values[m], inside[m]) for m in inside} for kind, values in found.items()}
    means = {kind: tuple(map(mean, values.values())) for kind, values in {_INSIDE: inside, **found}.items()}
    header = ("images", *inside)
    note = (
        f"{len(x)} images of each kind; x_T by explicit inversion in {context.explicit.steps} steps. Higher is more "
        "unusual."
    )
    tables = (
        Table("auroc", "Separating other images from unseen ones of the same kind (AUROC)", header,
              tuple((kind, *values.values()) for kind, values in areas.items()),
              "0.5 is chance. Unseen images count as inside."),
        Table("scores", "Scores", header, tuple((kind, *values) for kind, values in means.items()), note),
    )  # fmt: skip
    shown = {kind: found[kind]["x_T correlated"].tolist() for kind in ("negative", *outside)}
    drawn = histograms({_INSIDE: inside["x_T correlated"].tolist(), **shown}, "correlation, absolute")
    caption = f"Correlation of neighbouring values of x_T; {len(x)} images of each kind."
    pictures = (
        sheet("sheet", "Unseen, shifted and out-of-distribution images.", kinds.items()),
        Picture("correlation", caption, drawn, chart=True),
    )
    return Result(tables, pictures, (_claim({kind: areas[kind] for kind in outside}),))


def _scores(
    context: EvaluationContext, counts: Counts, kinds: dict[str, Tensor]
) -> dict[str, dict[str, Float[np.ndarray, " n"]]]:
    typical = context.z_sem(context.train.first(counts.labelled))
    found = {}
    for name, images in kinds.items():
        with context.progress(f"{_OUTSIDE}: {name}", len(images)) as done:
            found[name] = scores(
                context.model, images, generator=context.generator("outliers"), sampling=context.explicit,
                typical=typical, progress=done,
            )  # fmt: skip
    return found


def _area(outside: np.ndarray, inside: np.ndarray) -> Estimate:
    return auroc(np.concatenate([outside, inside]), np.arange(len(outside) + len(inside)) < len(outside))


def _outside(context: EvaluationContext, total: int) -> dict[str, Tensor]:
    """Images of another kind: textures, and those given."""
    channels, size, _ = context.model.image_shape
    found = {f"{_OUTSIDE}: textures": textures(total, channels, size, context.generator("textures"))}
    given = context.out_of_distribution
    if given is not None:
        found[f"{_OUTSIDE}: given"] = to_tensor(given.fetch(np.arange(min(total, len(given)))))
    return found


def _claim(areas: dict[str, dict[str, Estimate]]) -> Claim:
    """Claim 8: for every kind of out-of-distribution images, some score of x_T separates them better than chance."""
    best = {
        kind: max(((values[m], m) for m in _ABOUT_X_T), key=lambda pair: pair[0].value)
        for kind, values in areas.items()
    }
    evidence = "; ".join(f"{kind}: AUROC {value.value:.3f} by “{measure}”" for kind, (value, measure) in best.items())
    chance = [f"{kind} ({value.low:.3f} to {value.high:.3f})" for kind, (value, _) in best.items() if value.low <= 0.5]
    reason = f"the interval of the best score's AUROC includes 0.5 for {listed(chance)}" if chance else ""
    return Claim(8, verdict(*(value.low > 0.5 for value, _ in best.values())), evidence, reason)


TASK = Task(
    "out-of-distribution",
    "Out of distribution",
    "App. K",
    out_of_distribution,
    Counts,
    {8: "x_T of out-of-distribution images is not normal"},
)
