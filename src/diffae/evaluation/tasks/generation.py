"""How good are new images? (Paper Table 4.)

Claim 5 is the paper's, at equal T in both networks. Claim 10 is not: in the paper's own Table 4 it holds in 2 of 8
cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

import numpy as np
from torch import Tensor

from diffae.config import PRIOR_STEPS
from diffae.errors import DataError
from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.distances import kernel
from diffae.evaluation.features import FeatureNetwork
from diffae.evaluation.material import Images
from diffae.evaluation.results import Claim, Result, Table, text, verdict
from diffae.evaluation.statistics import Estimate
from diffae.evaluation.stored_features import Stored, stored_features
from diffae.evaluation.task import DistributionCounts, Task
from diffae.evaluation.tasks.shared import (
    NO_DDIM,
    about_bias,
    about_distances,
    about_samplers,
    against_steps,
    distances,
    nearer,
    sheet,
)

CLAIM_5 = {5: "At equal T, images are denoised and generated better than by DDIM"}
CLAIM_10 = {10: "Samples in 10 and 20 steps are nearer than DDIM's in the next larger number of steps"}

_LEAST = 20  # real images
_SHOWN = 10
_PICTURED = (10, 100)  # T
_OURS = f"ours, prior T = {PRIOR_STEPS}"
_SAME_T = "ours, prior with the same T"
_AUTOENCODED = "ours, z_sem of real images"
_BESIDE = {_AUTOENCODED: "decodings of real images' z_sem", "DDIM": "a DDIM without z_sem"}


def generation(context: EvaluationContext, counts: DistributionCounts) -> Result:
    """Distance from samples to real images at each T: DDIM, ours, and ours with z_sem of real images."""
    features = context.need_features()
    count = min(counts.distribution, len(context.real), len(context.train))
    if count < _LEAST:
        rule = f"generation needs at least {_LEAST} real ones; give more by --unseen, or raise --counts distribution"
        raise DataError(f"{count} images: {rule}")
    with stored_features(features, context.work) as see:
        return _measured(context, features, see, count)


def _measured(context: EvaluationContext, features: FeatureNetwork, see: Stored, count: int) -> Result:
    seen, real = see(context.blocks(context.real.first(count), "generation: real images"))
    steps, pictures = context.steps, [("real", real)]
    made: dict[tuple[str, int], np.ndarray] = {}
    found: dict[str, dict[int, tuple[Estimate, Estimate]]] = {}
    for name, make in _makers(context, count).items():
        found[name] = {}
        for t in steps:
            made[name, t], images = see(make(t))
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
    if context.systems.samples:
        tables = (*tables, _others(context, features, seen))
    caption = f"{features.kernel_name} against T, with 95 % intervals; {count} images on each side."
    lines = {name: {t: values[t][1] for t in steps} for name, values in found.items()}
    drawn = against_steps("distance", caption, lines, f"{features.kernel_name}, lower is nearer")
    claims, most = _claims(seen, made, context), max(steps)
    summary = _summary(features.kernel_name, {name: values[most][1].value for name, values in found.items()}, most)
    return Result(tables, (sheet("sheet", "Samples.", pictures, _SHOWN), drawn), claims, _notes(context), summary)


def _summary(kind: str, distances: Mapping[str, float], steps: int) -> str:
    """The distance of samples beside the others': it has no scale of its own."""
    ours = distances.get(_SAME_T)
    if ours is None:
        return ""
    others = [f"{distances[name]:.3g} for {words}" for name, words in _BESIDE.items() if name in distances]
    beside = f", {' and '.join(others)}" if others else ""
    return f"Samples are at a {kind} of {ours:.3g} from real images (T = {steps}){beside}; lower is nearer."


def _others(context: EvaluationContext, features: FeatureNetwork, real: np.ndarray) -> Table:
    """Samples of other systems, whose T is unknown."""
    rows = []
    for name, pack in context.systems.samples.items():
        chosen = Images(pack, np.random.default_rng(context.seed).permutation(len(pack))).first(len(real))
        made = np.concatenate([features.vectors(x) for x in context.blocks(chosen, f"generation: {name}")])
        rows.append((name, len(chosen), *distances(real, made, context.seed)))
    header = ("system", "images", features.frechet_name, features.kernel_name)
    note = f"Against the same {len(real):,} real images. {about_bias(features, len(real))} Intervals by the jackknife."
    return Table("others", "Samples of other systems", header, tuple(rows), note)


def _makers(context: EvaluationContext, count: int) -> dict[str, Callable[[int], Iterator[Tensor]]]:
    """Name => function from T to batches of images in [-1, 1]."""
    makers: dict[str, Callable[[int], Iterator[Tensor]]] = {}
    if context.ddim is not None:
        ddim = context.ddim
        makers["DDIM"] = lambda steps: context.decoded(count, steps, "DDIM", model=ddim)
    if context.prior is not None or context.ddim is None:  # without either, says what is missing
        sampled = context.sample_z_sem(count, "generation")
        makers[_OURS] = lambda steps: context.decoded(sampled, steps, "generation: ours")
        makers[_SAME_T] = lambda steps: context.decoded(
            context.sample_z_sem(count, "generation", steps), steps, "generation: ours"
        )
    of_training = context.z_sem(context.train.first(count))
    makers[_AUTOENCODED] = lambda steps: context.decoded(of_training, steps, "generation: z_sem of real images")
    return makers


def _claims(real: np.ndarray, made: dict[tuple[str, int], np.ndarray], context: EvaluationContext) -> tuple[Claim, ...]:
    """Claims 5 and 10, by the unbiased distance."""
    steps = sorted({t for _, t in made})
    if not {_SAME_T, "DDIM"} <= {name for name, _ in made}:
        return ()
    fewer = [(few, more) for few, more in pairwise(steps) if few <= 20]
    claims = [_claim(5, _SAME_T, [(t, t) for t in steps], real, made, context.seed)]
    further = _SAME_T if context.papers else _OURS
    return (*claims, *([_claim(10, further, fewer, real, made, context.seed)] if fewer else []))


def _claim(
    number: int,
    ours: str,
    pairs: list[tuple[int, int]],
    real: np.ndarray,
    made: dict[tuple[str, int], np.ndarray],
    seed: int,
) -> Claim:
    """Whether samples at our T are nearer to the real images than DDIM's at its T, for each pair of these."""
    gains = [nearer(real, made[ours, mine], made["DDIM", its], seed) for mine, its in pairs]
    values = [(kernel(real, made[ours, mine]), kernel(real, made["DDIM", its])) for mine, its in pairs]
    each = ", ".join(
        f"{value:.3g} at T = {mine} against DDIM's {other:.3g}{'' if mine == its else f' at T = {its}'}"
        for (mine, its), (value, other) in zip(pairs, values, strict=True)
    )
    said = ", ".join(
        f"{text(gain)} at T = {mine}" for (mine, _), gain in zip(pairs, gains, strict=True) if not gain.above(0)
    )
    evidence = f"kernel distance of samples ({ours}), {each}"
    return Claim(number, verdict(*(gain.above(0) for gain in gains)), evidence, f"nearer by {said}" if said else "")


def _notes(context: EvaluationContext) -> tuple[str, ...]:
    return (
        f"Real images are {'those of training' if context.papers else 'unseen'}; z_sem of real images are those of "
        "training images; x_T is random throughout. Claim 5 takes the same T for both networks, as the paper's Table 4 "
        f"does; claim 10 {'too' if context.papers else f'takes {PRIOR_STEPS} steps of the prior'}.",
        *about_samplers(context),
        *(() if context.prior else ("This run has no latent prior, so nothing was sampled from it.",)),
        *(() if context.ddim else (NO_DDIM,)),
    )


TASK = Task(
    "generation",
    "Generation",
    "Table 4",
    generation,
    DistributionCounts,
    {**CLAIM_5, **CLAIM_10},
    paper={"distribution": 50_000},
)
