"""Which images is the model not made for, and what reveals them? (Paper Appendix K.)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy.stats import kstest
from torch import Tensor

from diffae.config import Sampling
from diffae.data.images import to_tensor, to_unit
from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.results import Claim, Picture, Result, Table, listed, text, verdict
from diffae.evaluation.statistics import Estimate, auroc, mean
from diffae.evaluation.task import LabelledCounts, Task, count
from diffae.evaluation.tasks.shared import sheet
from diffae.latent.typicality import TypicalCodes
from diffae.model import Code, DiffusionAutoencoder
from diffae.plotting import histograms

_INSIDE = "unseen"
_OUTSIDE = "out-of-distribution"
_NORMALITY = "x_T not normal"  # decides claim 8
_TRANSLATED = "translated"
_SHOWN = 6
_GOOD = 1e-3  # mean squared error of a good reconstruction, images in [0, 1]


def shifted(x: Float[Tensor, "n c h w"], generator: torch.Generator) -> dict[str, Float[Tensor, "n c h w"]]:
    """The images, in [-1, 1], changed in several ways so that they leave the training distribution, by name.

    "translated" moves them to the right by a quarter, as in Fig. 11; the left border is repeated.
    """
    half = x.shape[-1] // 2
    corners = torch.randperm(4, generator=generator)
    while bool((corners == torch.arange(4)).all()):
        corners = torch.randperm(4, generator=generator)
    quarters = [x[..., i * half : (i + 1) * half, j * half : (j + 1) * half] for i in (0, 1) for j in (0, 1)]
    a, b, c, d = (quarters[int(place)] for place in corners)
    shuffled = torch.cat([torch.cat([a, b], dim=-1), torch.cat([c, d], dim=-1)], dim=-2)
    noise = torch.randn(x.shape, generator=generator)
    aside = x.shape[-1] // 4
    return {
        _TRANSLATED: torch.cat([x[..., :1].expand(*x.shape[:-1], aside), x[..., :-aside]], dim=-1),
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
    code: Code | None = None,
    sampling: Sampling | None = None,
    alone: Sampling | None = None,
    typical: Float[Tensor, "m d"] | None = None,
) -> dict[str, Float[np.ndarray, " n"]]:
    """How unusual each image is, by several measures; higher means less like the training images.

    Args:
        model: with an encoder.
        x_0: images in [-1, 1].
        generator: source of the random x_T, on the CPU.
        code: of the images, if known already.
        sampling: how to encode and decode.
        alone: how to decode from random x_T, if otherwise.
        typical: z_sem of training images.
    Returns:
        "error of z_sem alone": mean squared error of images decoded from z_sem and random x_T, images in [0, 1];
        "x_T not normal": Kolmogorov-Smirnov distance of x_T's values from N(0, 1);
        "x_T correlated": correlation of neighbouring values of x_T, absolute, mean of both directions;
        "z_sem unusual": Mahalanobis distance of z_sem from `typical`, if given.
    """
    code = code if code is not None else model.encode(x_0, sampling)
    assert code.z_sem is not None
    back = model.decode(z_sem=code.z_sem, generator=generator, sampling=alone or sampling).cpu()
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
    """Mahalanobis distance of each z from the distribution of `typical` (see `diffae.latent.typicality`).

    Raises:
        DataError: fewer than 2 typical codes.
    """
    return TypicalCodes().fit(typical).distance(z)


@dataclass(frozen=True)
class Counts(LabelledCounts):
    """How many images are scored."""

    outliers: int = count(20, 256, "test")
    """Images of each kind."""


@dataclass(frozen=True)
class Kind:
    """Images of one kind, and what is found in them."""

    images: Float[Tensor, "n c h w"]
    x_T: Float[Tensor, "n c h w"]
    """Of the first images, those shown."""
    back: Float[Tensor, "n c h w"]
    """Decoded from (z_sem, x_T)."""
    scores: Mapping[str, Float[np.ndarray, " n"]]


def out_of_distribution(context: EvaluationContext, counts: Counts) -> Result:
    """Scores of unseen, shifted and out-of-distribution images, and how well they separate these; x_T, pictured."""
    x = context.unseen(counts.outliers, _OUTSIDE, least=8)
    outside = _outside(context, len(x))
    kinds: dict[str, Tensor] = {_INSIDE: x, **shifted(x, context.generator("shifts")), **outside}
    typical = context.z_sem(context.train.first(counts.labelled))
    found = {name: _scored(context, name, images, typical) for name, images in kinds.items()}
    inside, how = found[_INSIDE].scores, context.explicit
    others = {name: kind.scores for name, kind in found.items() if name != _INSIDE}
    best = {name: _best(values, inside) for name, values in others.items()}
    means = {name: (_error(kind), *map(mean, kind.scores.values())) for name, kind in found.items()}
    note = f"{len(x)} images of each kind; x_T by {how.inversion} inversion in {how.steps} steps."
    tables = (
        Table("auroc", "Separating other images from unseen ones (AUROC)", ("images", "AUROC", "by"),
              tuple((name, area, measure) for name, (area, measure) in best.items()),
              f"The best of {len(inside)} scores for each kind; its interval is corrected for looking at so many "
              "(Bonferroni). 0.5 is chance."),
        Table("scores", "Scores one by one: AUROC", ("images", *inside),
              tuple((name, *(_area(values[m], inside[m]) for m in inside)) for name, values in others.items()),
              "Intervals are those of one score, not corrected."),
        Table("means", "Reconstruction and scores: means", ("images", "MSE from z_sem and x_T", *inside),
              tuple((name, *values) for name, values in means.items()), f"{note} Higher is more unusual."),
    )  # fmt: skip
    shown = {name: found[name].scores[_NORMALITY].tolist() for name in (_INSIDE, _TRANSLATED, *outside)}
    caption = f"Kolmogorov-Smirnov distance of x_T's values from N(0, 1); {len(x)} images of each kind."
    pictures = (
        sheet("sheet", "Unseen, shifted and out-of-distribution images.", kinds.items()),
        _maps({name: found[name] for name in (_INSIDE, _TRANSLATED, *outside)}),
        Picture("normality", caption, histograms(shown, "distance from N(0, 1)"), chart=True),
    )
    decided = {name: _area(others[name][_NORMALITY], inside[_NORMALITY]) for name in (_TRANSLATED, *outside)}
    errors = {name: _error(found[name]) for name in (_TRANSLATED, *outside)}
    return Result(tables, pictures, (_claim(decided), _reconstructed(errors)))


def _scored(context: EvaluationContext, name: str, images: Tensor, typical: Tensor) -> Kind:
    code = context.encode(images, context.explicit, f"{_OUTSIDE}: {name}")
    found = scores(
        context.model, images, generator=context.generator("outliers"), code=code, sampling=context.explicit,
        alone=context.at(context.explicit.steps), typical=typical,
    )  # fmt: skip
    assert code.x_T is not None
    back = context.model.decode(code, sampling=context.explicit).cpu().clamp(-1, 1)
    return Kind(images, code.x_T[:_SHOWN].cpu(), back, found)


def _error(kind: Kind) -> Estimate:
    """Mean squared error of what (z_sem, x_T) brings back, images in [0, 1]."""
    return mean((to_unit(kind.back) - to_unit(kind.images)).square().mean(dim=(1, 2, 3)).double().numpy())


def _maps(kinds: dict[str, Kind]) -> Picture:
    """x_T and the reconstruction below each image, as in Figs. 11 and 12."""
    rows = []
    for name, kind in kinds.items():
        noise = kind.x_T.mean(dim=1, keepdim=True) if kind.x_T.shape[1] not in (1, 3) else kind.x_T
        rows += [(name, kind.images), ("x_T", noise / 3), ("decoded", kind.back)]
    return sheet("maps", "Images, their x_T (-3 is black, 3 white), and what (z_sem, x_T) decodes to.", rows, _SHOWN)


def _area(outside: np.ndarray, inside: np.ndarray, looked_at: int = 1) -> Estimate:
    positive = np.arange(len(outside) + len(inside)) < len(outside)
    return auroc(np.concatenate([outside, inside]), positive, looked_at)


def _best(outside: Mapping[str, np.ndarray], inside: Mapping[str, np.ndarray]) -> tuple[Estimate, str]:
    """The largest area of several scores, with an interval corrected for their number, and the score's name."""
    areas = {name: _area(outside[name], inside[name], len(inside)) for name in inside}
    name = max(areas, key=lambda name: areas[name].value)
    return areas[name], name


def _outside(context: EvaluationContext, total: int) -> dict[str, Tensor]:
    """Images of another kind: textures, and those given."""
    channels, size, _ = context.model.image_shape
    found = {f"{_OUTSIDE}: textures": textures(total, channels, size, context.generator("textures"))}
    given = context.out_of_distribution
    if given is not None:
        found[f"{_OUTSIDE}: given"] = to_tensor(given.fetch(np.arange(min(total, len(given)))))
    return found


def _claim(areas: dict[str, Estimate]) -> Claim:
    """Claim 8: x_T's distance from N(0, 1) tells each kind from unseen images better than chance."""
    evidence = "; ".join(f"{kind}: AUROC {area.value:.3f} by “{_NORMALITY}”" for kind, area in areas.items())
    short = [f"{kind} ({area.low:.3f} to {area.high:.3f})" for kind, area in areas.items() if not area.above(0.5)]
    reason = (
        f"x_T is not significantly further from normal than that of unseen images: {listed(short)}" if short else ""
    )
    return Claim(8, verdict(*(area.above(0.5) for area in areas.values())), evidence, reason)


def _reconstructed(errors: dict[str, Estimate]) -> Claim:
    """Claim 15: (z_sem, x_T) brings images of each other kind back."""
    holds = {kind: _below(error) for kind, error in errors.items()}
    evidence = "; ".join(f"{kind}: MSE {text(error)}" for kind, error in errors.items())
    short = [kind for kind, right in holds.items() if not right]
    reason = f"not below {_GOOD:g} (a PSNR of 30 dB) for {listed(short)}" if short else ""
    return Claim(15, verdict(*holds.values()), evidence, reason)


def _below(error: Estimate) -> bool | None:
    above = error.above(_GOOD)
    return None if above is None else not above


TASK = Task(
    "out-of-distribution",
    "Out of distribution",
    "App. K",
    out_of_distribution,
    Counts,
    {8: "x_T of out-of-distribution images is not normal", 15: "Out-of-distribution images are still reconstructed"},
)
