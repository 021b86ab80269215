"""How early does the decoder know the image? (Paper Fig. 6.)"""

from __future__ import annotations

import numpy as np

from diffae.evaluation.context import Study
from diffae.evaluation.denoising import DenoisingPath, denoising_path
from diffae.evaluation.results import Claim, Picture, Result, Table, verdict
from diffae.evaluation.statistics import mean
from diffae.model import DiffusionAutoencoder
from diffae.plotting import tiles_of
from diffae.plotting_figures import curves, labelled_rows

_SHOWN = 8  # levels in the picture


def denoising(study: Study) -> Result:
    """Error of x0_hat at each level, ours beside DDIM's, and pictures of the way."""
    x = study.unseen(study.counts.denoised, "denoising")
    sampling = study.sampling
    paths: dict[str, DenoisingPath] = {}
    models: dict[str, DiffusionAutoencoder | None] = {"ours": study.model, "DDIM": study.ddim}
    for whose, model in models.items():
        if model is not None:
            code = study.encode(x, sampling, f"denoising: {whose}", model)
            paths[whose] = denoising_path(model, x, code, sampling)
    errors = {whose: [mean(column) for column in path.mse.T.numpy()] for whose, path in paths.items()}
    levels = paths["ours"].levels
    rows = tuple((t, *(errors[whose][place] for whose in errors)) for place, t in enumerate(levels))
    note = f"MSE of x0_hat against the image, in [0, 1]; {len(x)} unseen images, x_T exact, T = {sampling.steps}."
    table = Table("error", "Error of the predicted image on the way from x_T", ("t", *errors), rows, note)
    lines = {whose: (levels, values) for whose, values in errors.items()}
    chosen = np.unique(np.linspace(0, len(levels) - 1, _SHOWN).round().astype(int))
    strips = [
        (f"{whose}\nimage {image + 1}", tiles_of(path.shown[image, chosen], [f"t = {levels[i]}" for i in chosen]))
        for whose, path in paths.items()
        for image in range(len(path.shown))
    ]
    pictures = (
        Picture("error", f"Error of x0_hat against the level t, from noise (right) to the image, with 95 % intervals; "
                f"{len(x)} images.", curves(lines, "level t", "MSE of x0_hat, images in [0, 1]"), chart=True),
        Picture("strips", "x0_hat on the way down.", labelled_rows(strips)),
    )  # fmt: skip
    if "DDIM" not in paths:
        return Result((table,), pictures, (), ("No DDIM baseline was given (--ddim) to compare with.",))
    means = {whose: path.mse.mean().item() for whose, path in paths.items()}
    evidence = f"mean error of x0_hat along the path {means['ours']:.3g}, DDIM {means['DDIM']:.3g}"
    behind = [t for t, ours, theirs in zip(levels, errors["ours"], errors["DDIM"], strict=True)
              if ours.value >= theirs.value]  # fmt: skip
    holds = mean((paths["DDIM"].mse - paths["ours"].mse).mean(dim=1).numpy()).above(0)
    where = f"at {len(behind)} of {len(levels)} levels, t = {behind[-1]} to {behind[0]}" if behind else "nowhere"
    reason = "" if holds else f"ours is behind {where}; {len(x)} images"
    return Result((table,), pictures, (Claim(5, verdict(holds), evidence, reason),))
