"""How good are new images? (Paper Table 4.)"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from torch import Tensor

from diffae.config import PRIOR_STEPS
from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.distances import kernel
from diffae.evaluation.results import Claim, Result, Table, text, verdict
from diffae.evaluation.statistics import Estimate, jackknife
from diffae.evaluation.task import DistributionCounts, Task
from diffae.evaluation.tasks.shared import NO_DDIM, about_distances, against_steps, distances, sheet

CLAIM_5 = {5: "Fewer steps are needed than by DDIM"}

_SHOWN = 10
_PICTURED = (10, 100)  # T
_OURS = f"ours, prior T = {PRIOR_STEPS}"
_SAME_T = "ours, prior with the same T"
_AUTOENCODED = "ours, z_sem of real images"


def generation(context: EvaluationContext, counts: DistributionCounts) -> Result:
    """Distance from samples to unseen images at each T: DDIM, ours, and ours with z_sem of real images."""
    features = context.need_features()
    count = min(counts.distribution, len(context.test), len(context.train))
    real = context.unseen(count, "generation", least=20)
    seen, steps = features.vectors(real), context.steps
    made: dict[tuple[str, int], np.ndarray] = {}
    found: dict[str, dict[int, tuple[Estimate, Estimate]]] = {}
    pictures = [("real, unseen", real)]
    for name, make in _makers(context, count).items():
        found[name] = {}
        for t in steps:
            images = make(t)
            made[name, t] = features.vectors(images)
            found[name][t] = distances(seen, made[name, t], context.seed)
            pictures += [(f"{name}\nT = {t}", images[:_SHOWN])] if t in _PICTURED else []
    tables = tuple(
        Table(
            kind.split("-")[0].lower(), kind, ("model", *(f"T = {t}" for t in steps)),
            tuple((name, *(values[t][place] for t in steps)) for name, values in found.items()),
            about_distances(features, count),
        )
        for place, kind in enumerate((features.frechet_name, features.kernel_name))
    )  # fmt: skip
    caption = f"{features.kernel_name} against T, with 95 % intervals; {count} images on each side."
    lines = {name: {t: values[t][1] for t in steps} for name, values in found.items()}
    drawn = against_steps("distance", caption, lines, f"{features.kernel_name}, lower is nearer")
    claims = _claims(seen, made, context.seed)
    return Result(tables, (sheet("sheet", "Samples.", pictures, _SHOWN), drawn), claims, _notes(context))


def _makers(context: EvaluationContext, count: int) -> dict[str, Callable[[int], Tensor]]:
    """Name => function from T to images in [-1, 1]."""
    makers: dict[str, Callable[[int], Tensor]] = {}
    if context.ddim is not None:
        ddim = context.ddim
        makers["DDIM"] = lambda steps: context.decode(count, steps, "DDIM", model=ddim)
    if context.prior is not None or context.ddim is None:  # without either, says what is missing
        sampled = context.sample_z_sem(count, "generation")
        makers[_OURS] = lambda steps: context.decode(sampled, steps, "generation: ours")
        makers[_SAME_T] = lambda steps: context.decode(
            context.sample_z_sem(count, "generation", steps), steps, "generation: ours"
        )
    of_training = context.z_sem(context.train.first(count))
    makers[_AUTOENCODED] = lambda steps: context.decode(of_training, steps, "generation: z_sem of real images")
    return makers


def _claims(real: np.ndarray, made: dict[tuple[str, int], np.ndarray], seed: int) -> tuple[Claim, ...]:
    """Claim 5, by the unbiased distance: ours with 10 and 20 steps is nearer than DDIM with the next larger number."""
    steps = sorted({t for _, t in made})
    pairs = [(few, more) for few, more in pairwise(steps) if few <= 20]
    if not pairs or not {_OURS, "DDIM"} <= {name for name, _ in made}:
        return ()
    values = {place: kernel(real, features) for place, features in made.items()}
    gains = {
        few: jackknife(lambda a, b, c: kernel(a, c) - kernel(a, b), (real, made[_OURS, few], made["DDIM", more]), seed)
        for few, more in pairs
    }
    each = ", ".join(
        f"{values[_OURS, few]:.3g} at T = {few} against DDIM's {values['DDIM', more]:.3g} at T = {more}"
        for few, more in pairs
    )
    said = ", ".join(f"{text(gain)} at T = {few}" for few, gain in gains.items() if not gain.above(0))
    with_real = ", ".join(f"{values[_AUTOENCODED, few]:.3g} at T = {few}" for few in gains)
    reason = f"nearer by {said}; with z_sem of real images the distance is {with_real}" if said else ""
    holds = (gain.above(0) for gain in gains.values())
    return (Claim(5, verdict(*holds), f"kernel distance of samples, {each}", reason),)


def _notes(context: EvaluationContext) -> tuple[str, ...]:
    return (
        "z_sem of real images are those of training images; x_T is random throughout. The paper's Table 4 applies T to "
        "both networks; claim 5 is decided by the prior's default steps.",
        *(() if context.prior else ("This run has no latent prior, so nothing was sampled from it.",)),
        *(() if context.ddim else (NO_DDIM,)),
    )


TASK = Task("generation", "Generation", "Table 4", generation, DistributionCounts, CLAIM_5)
