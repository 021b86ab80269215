"""How smooth is the way from one image to another? (Paper Fig. 4, Appendix F, Eq. 10.)"""

from __future__ import annotations

import numpy as np
import torch

from diffae.evaluation.context import Study
from diffae.evaluation.path_length import EPSILON, path_length, squared_error
from diffae.evaluation.results import Claim, Picture, Result, Table, verdict
from diffae.evaluation.statistics import mean
from diffae.model import DiffusionAutoencoder
from diffae.plotting import tiles_of
from diffae.plotting_figures import labelled_rows

_STRIPS = 3
_LEAST = 3  # images in a ring: of two, both pairs would be the same
_FRAMES = 9


def interpolation(study: Study) -> Result:
    """Perceptual path length between neighbours among unseen images, ours beside DDIM's, and strips."""
    x = study.unseen(max(study.counts.pairs, _LEAST), "interpolation", least=_LEAST)
    sampling = study.sampling
    distances = {"pixel path length": squared_error}
    if study.perceptual:
        distances[f"path length, {study.perceptual.distance_name}"] = study.perceptual.distance
    models: dict[str, DiffusionAutoencoder | None] = {"ours": study.model, "DDIM": study.ddim}
    lengths: dict[tuple[str, str], np.ndarray] = {}
    strips = []
    for whose, model in models.items():
        if model is None:
            continue
        code = study.encode(x, sampling, f"interpolation: {whose}", model)
        other = code[torch.arange(len(x)).roll(-1)]
        for name, distance in distances.items():
            with study.progress(f"interpolation: {whose}, {name}", len(x)) as done:
                lengths[whose, name] = path_length(
                    model, code, other, distance, generator=study.generator("interpolation"), sampling=sampling,
                    progress=done,
                )  # fmt: skip
        for pair in range(min(_STRIPS, len(x))):
            frames = model.interpolate(code[pair : pair + 1], other[pair : pair + 1], _FRAMES, sampling)
            strips.append((f"{whose}\npair {pair + 1}", tiles_of(frames)))
    whose = list(dict.fromkeys(whose for whose, _ in lengths))
    rows = tuple((name, *(mean(lengths[one, name]) for one in whose)) for name in distances)
    note = (
        f"Eq. 10 with epsilon = {EPSILON:g} over {len(x)} pairs of {len(x)} unseen images, each and the next, "
        f"T = {sampling.steps}, x_T exact; straight lines in z_sem, great arcs in x_T. Shorter is smoother."
    )
    table = Table("path-length", "Path length", ("distance", *whose), rows, note)
    picture = Picture("strips", "From one unseen image to another.", labelled_rows(strips))
    if study.ddim is None:
        return Result((table,), (picture,), (), ("No DDIM baseline was given (--ddim) to compare with.",))
    return Result((table,), (picture,), (_claim(lengths, list(distances)),))


def _claim(lengths: dict[tuple[str, str], np.ndarray], distances: list[str]) -> Claim:
    """Claim 2, by features where there are some."""
    *others, name = distances
    ratio = {one: lengths["DDIM", one].mean() / lengths["ours", one].mean() for one in distances}
    ours, theirs = lengths["ours", name].mean(), lengths["DDIM", name].mean()
    evidence = f"{name}: ours {ours:.3g}, DDIM {theirs:.3g}, {ratio[name]:.2f} times as long"
    holds = mean(lengths["DDIM", name] - lengths["ours", name]).above(0)
    if holds:
        return Claim(2, verdict(holds), evidence)
    elsewhere = "".join(f"; by {one} DDIM's is {ratio[one]:.2f} times as long" for one in others)
    longer = float(np.mean(lengths["ours", name] > lengths["DDIM", name]))
    return Claim(2, verdict(holds), evidence, f"ours is the longer in {longer:.0%} of the pairs{elsewhere}")
