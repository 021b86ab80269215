"""How good are new images? (Paper Table 4.)"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from diffae.config import Sampling
from diffae.evaluation.context import Study, steps_of
from diffae.evaluation.distances import kernel
from diffae.evaluation.results import Cell, Claim, Picture, Result, Table, text, verdict
from diffae.evaluation.statistics import Estimate, jackknife
from diffae.evaluation.tasks.generated import about_distances, decode_many, distances, prior_z_sem
from diffae.model import DiffusionAutoencoder
from diffae.plotting import tiles_of
from diffae.plotting_figures import curves, labelled_rows

_SHOWN = 10
_AUTOENCODED = "ours, z_sem of real images"


def generation(study: Study) -> Result:
    """Distance of samples from unseen images at each T: DDIM, ours, and ours with z_sem of real images."""
    features = study.need_features()
    count = min(study.counts.distribution, len(study.test), len(study.train))
    real = study.unseen(count, "generation", least=20)
    seen = features.vectors(real)
    makers = _makers(study, count)
    found: dict[tuple[str, int], tuple[Estimate, Estimate]] = {}
    made: dict[tuple[str, int], np.ndarray] = {}
    sheets = []
    for name, make in makers.items():
        for steps in steps_of(study):
            images = make(steps)
            made[name, steps] = features.vectors(images)
            found[name, steps] = distances(seen, made[name, steps], study.seed)
            if steps in (10, 100):
                sheets.append((f"{name}\nT = {steps}", tiles_of(images[:_SHOWN])))
    names = list(makers)
    steps = list(steps_of(study))
    tables = tuple(
        Table(
            kind.split("-")[0].lower(), kind, ("model", *(f"T = {t}" for t in steps)),
            tuple((name, *(found[name, t][place] for t in steps)) for name in names),
            about_distances(features, count),
        )
        for place, kind in enumerate((features.frechet_name, features.kernel_name))
    )  # fmt: skip
    lines = {name: (steps, [found[name, t][1] for t in steps]) for name in names}
    pictures = (
        Picture("sheet", "Samples.", labelled_rows([("real, unseen", tiles_of(real[:_SHOWN])), *sheets])),
        Picture("distance", f"{features.kernel_name} against T, with 95 % intervals; {count} images on each side.",
                curves(lines, "steps T", f"{features.kernel_name}, lower is nearer", logarithmic="x"), chart=True),
    )  # fmt: skip
    return Result(tables, pictures, _claims(seen, made, study.seed), _notes(study))


def _makers(study: Study, count: int) -> dict[str, Callable[[int], Tensor]]:
    """Name => function from T to images in [-1, 1]."""
    makers: dict[str, Callable[[int], Tensor]] = {}
    if study.ddim is not None:
        ddim = study.ddim
        makers["DDIM"] = lambda steps: _unconditional(study, ddim, count, steps)
    if study.model.prior is not None:
        sampled = prior_z_sem(study, count, "generation")
        makers["ours"] = lambda steps: decode_many(study, sampled, steps, "generation: ours")
    of_training = study.z_sem(study.train.first(count))
    makers[_AUTOENCODED] = lambda steps: decode_many(study, of_training, steps, "generation: z_sem of real images")
    if study.model.prior is None and study.ddim is None:
        prior_z_sem(study, count, "generation")  # says what is missing
    return makers


def _unconditional(study: Study, ddim: DiffusionAutoencoder, count: int, steps: int) -> Tensor:
    generator = study.generator(f"DDIM {steps}")
    parts = []
    with study.progress(f"generation: DDIM, T = {steps}", count) as done:
        for rows in torch.arange(count).split(64):
            x_T = torch.randn((len(rows), *ddim.image_shape), generator=generator)
            parts.append(ddim.decode(x_T=x_T, sampling=Sampling(steps)).cpu())
            done(int(rows[-1]) + 1)
    return torch.cat(parts).clamp(-1, 1)


def _claims(real: np.ndarray, made: dict[tuple[str, int], np.ndarray], seed: int) -> tuple[Claim, ...]:
    """Claim 5, by the unbiased distance: ours in 10 and 20 steps is nearer than DDIM in the next larger number."""
    steps = sorted({t for _, t in made})
    pairs = [(few, more) for few, more in pairwise(steps) if few <= 20]
    if not pairs or not {"ours", "DDIM"} <= {name for name, _ in made}:
        return ()
    values = {place: kernel(real, features) for place, features in made.items()}
    gains = [
        jackknife(lambda a, b, c: kernel(a, c) - kernel(a, b), (real, made["ours", few], made["DDIM", more]), seed)
        for few, more in pairs
    ]
    each = (f"{values['ours', few]:.3g} at T = {few} against DDIM's {values['DDIM', more]:.3g} at T = {more}"
            for few, more in pairs)  # fmt: skip
    evidence = f"kernel distance of samples, {', '.join(each)}"
    holds = [gain.above(0) for gain in gains]
    if all(holds):
        return (Claim(5, verdict(*holds), evidence),)
    said = [f"{text(gain)} at T = {few}"
            for gain, (few, _), right in zip(gains, pairs, holds, strict=True) if not right]  # fmt: skip
    with_real = ", ".join(f"{values[_AUTOENCODED, few]:.3g} at T = {few}" for few, _ in pairs)
    reason = f"nearer by {', '.join(said)}; with z_sem of real images the distance is {with_real}"
    return (Claim(5, verdict(*holds), evidence, reason),)


def _notes(study: Study) -> tuple[str, ...]:
    notes: list[Cell] = ["Z_sem of real images is that of images the model was trained on; x_T is random everywhere."]
    if study.model.prior is None:
        notes.append("This run has no latent prior, so nothing was sampled from it.")
    if study.ddim is None:
        notes.append("No DDIM baseline was given (--ddim) to compare with.")
    return tuple(map(str, notes))
