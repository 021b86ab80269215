"""How large must z_sem be? (Paper Table 2 b-e.)"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, cast

import numpy as np

from diffae.errors import DataError
from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.linear_probe import macro_average, probe_attribute
from diffae.evaluation.results import Cell, Claim, Result, Table, text, verdict
from diffae.evaluation.statistics import mean
from diffae.evaluation.task import ProbeCounts, ReconstructedCounts, Task, count
from diffae.evaluation.tasks.reconstruction import measure
from diffae.model import DiffusionAutoencoder
from diffae.training.autoencoder import train_autoencoder
from diffae.training.settings import DistillationConfig
from diffae.training.state import STATE


@dataclass(frozen=True)
class Counts(ReconstructedCounts, ProbeCounts):
    """Which models are trained, and how they are measured."""

    capacities: tuple[int, ...] = count((16, 64), (64, 128, 256, 512))
    """Sizes of z_sem."""
    capacity_images: int = count(1_000, 250_000)
    """Images seen in training each model."""


def capacity(context: EvaluationContext, counts: Counts) -> Result:
    """Reconstruction with and without x_T, and linear probes, for models with z_sem of several sizes."""
    x = context.unseen(counts.reconstructed, "capacity")
    rows: list[tuple[Cell, ...]] = []
    errors: dict[int, np.ndarray] = {}
    distance = (context.perceptual.distance_name,) if context.perceptual else ()
    names = context.probeable(counts.labelled, counts.tested)[0] if context.test.labels else []
    for name, model in context.capacity or _trained(context, counts):
        size = model.config.z_sem_channels
        if model.image_shape != context.model.image_shape or not size:
            made = f"is for images {model.image_shape} with z_sem of {size}"
            raise DataError(f"{name} {made}: must be for {context.model.image_shape}, with an encoder")
        explicit, generator = context.explicit, context.generator("capacity")
        own = context.at(explicit.steps, model)
        alone = model.decode(z_sem=model.encode_semantic(x), sampling=own, generator=generator).cpu()
        code = context.encode(x, explicit, f"capacity: {name}", model)
        from_z = measure(context, name, x, alone, size)
        both = measure(context, name, x, model.decode(code, sampling=explicit).cpu(), size)
        perceptual = (from_z.distance,) if distance else ()
        area = (_area(context, counts, model, names),) if names else ()
        errors[size] = from_z.errors
        rows.append((name, size, from_z.ssim, *perceptual, from_z.mse, both.ssim, both.mse, *area))
    header = (
        "model", "z_sem", "SSIM, z_sem alone", *distance, "MSE, z_sem alone", "SSIM, with x_T", "MSE, with x_T",
        *(("AUROC, plain average",) if names else ()),
    )  # fmt: skip
    way = context.explicit.inversion
    note = f"{len(x)} unseen images; T = {context.sampling.steps}; x_T is random, or found by {way} inversion."
    distilled = ", but without distillation, whose features are not at hand" if context.trained.distils else ""
    trained = (
        f"These models were trained for this table, each on {counts.capacity_images:,} images seen (the evaluated run: "
        f"{context.trained.images:,}), with otherwise equal settings{distilled}. Name models trained longer by "
        "--capacity."
    )
    table = Table("sizes", "Size of z_sem", header, tuple(rows), note)
    return Result((table,), claims=_claims(errors), notes=() if context.capacity else (trained,))


def _claims(errors: Mapping[int, np.ndarray]) -> tuple[Claim, ...]:
    """Claim 12: from each size to the next larger one, the error of images decoded from z_sem alone falls."""
    pairs = list(pairwise(sorted(errors)))
    gains = [mean(errors[small] - errors[large]) for small, large in pairs]
    if not gains:
        return ()
    each = ", ".join(f"{size}: {errors[size].mean():.3g}" for size in sorted(errors))
    short = [
        f"from {small} to {large} the error falls by {text(gain)}"
        for (small, large), gain in zip(pairs, gains, strict=True)
        if not gain.above(0)
    ]
    return (Claim(12, verdict(*(gain.above(0) for gain in gains)), f"MSE by size of z_sem, {each}", "; ".join(short)),)


def _trained(context: EvaluationContext, counts: Counts) -> Iterator[tuple[str, DiffusionAutoencoder]]:
    """Models with z_sem of each size, trained for this task or read from an earlier evaluation."""
    images = counts.capacity_images
    training = replace(
        context.trained.with_loss(DistillationConfig, 0), images=images, warmup_images=images // 20, val_images=64,
        validate_every=images, save_every=images, seed=context.seed,
    )  # fmt: skip
    facts = (training, context.model.config, context.train.rows.tolist(), context.train.pack.index)
    key = hashlib.sha256(repr(facts).encode()).hexdigest()[:12]
    pack = context.train.to_pack(context.work / f"train-{key}.pack")
    config = context.model.config
    for size in counts.capacities:
        own = replace(config, encoder=replace(cast(Any, config.encoder), z_sem_channels=size))
        folder = context.work / f"capacity-{size}-{key}"
        resume = (folder / STATE).is_file()  # a finished run is only read
        if not train_autoencoder(pack, folder, own, training, resume=resume, overwrite=not resume):
            raise KeyboardInterrupt
        yield (
            f"z_sem of {size}",
            DiffusionAutoencoder.from_pretrained(folder, trust_code=True),
        )  # its parts are imported already


def _area(context: EvaluationContext, counts: Counts, model: DiffusionAutoencoder, names: list[str]) -> float:
    """Mean AUROC of linear probes on the model's z_sem."""
    known, tested = context.train.first(counts.labelled), context.test.first(counts.tested)
    fitted, unseen = (model.encode_semantic(images.tensor()).cpu().numpy() for images in (known, tested))
    return macro_average(
        [probe_attribute(name, fitted, known.labels[name], unseen, tested.labels[name]) for name in names]
    )


TASK = Task(
    "capacity",
    "Size of z_sem",
    "Table 2 b-e",
    capacity,
    Counts,
    {12: "The larger z_sem is, the better it reconstructs alone"},
)
