"""How large must z_sem be? (Paper Table 2 b-e.)"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from diffae.config import TrainingConfig
from diffae.data.pack import Pack
from diffae.errors import CheckpointError, DataError
from diffae.evaluation.context import Images, Study
from diffae.evaluation.linear_probe import macro_average, probe_attribute
from diffae.evaluation.results import Cell, Result, Table
from diffae.evaluation.tasks.reconstruction import measure
from diffae.model import DiffusionAutoencoder
from diffae.training.autoencoder import train_autoencoder

_CHUNK = 4096  # images copied at once


def capacity(study: Study) -> Result:
    """Reconstruction, from z_sem alone and with x_T, and what z_sem tells, for models of several sizes of z_sem."""
    x = study.unseen(study.counts.reconstructed, "capacity")
    rows: list[tuple[Cell, ...]] = []
    distance = (study.perceptual.distance_name,) if study.perceptual else ()
    attributes = study.test.labels and study.readable[0]
    for name, model in study.capacity or _trained(study):
        size = model.config.network.z_sem_channels
        if model.image_shape != study.model.image_shape or not size:
            made = f"is for images {model.image_shape} with z_sem of {size}"
            raise DataError(f"{name} {made}: must be for {study.model.image_shape}, with an encoder")
        explicit = study.explicit
        z_sem = model.encode_semantic(x)
        alone = model.decode(z_sem=z_sem, sampling=explicit, generator=study.generator("capacity")).cpu()
        whole = model.decode(study.encode(x, explicit, f"capacity: {name}", model), sampling=explicit).cpu()
        from_z = measure(name, x, alone, numbers=size, features=study.perceptual)
        both = measure(name, x, whole, numbers=size, features=study.perceptual)
        perceptual = (from_z.distance,) if study.perceptual else ()
        area = (_area(study, model),) if attributes else ()
        rows.append((name, size, from_z.ssim, *perceptual, from_z.mse, both.ssim, both.mse, *area))
    header = (
        "model", "z_sem", "SSIM, z_sem alone", *distance, "MSE, z_sem alone", "SSIM, with x_T", "MSE, with x_T",
        *(("AUROC, plain average",) if attributes else ()),
    )  # fmt: skip
    note = f"{len(x)} unseen images; T = {study.sampling.steps}; x_T random, or explicit."
    notes = () if study.capacity else (_how_trained(study),)
    return Result((Table("sizes", "Size of z_sem", header, tuple(rows), note),), notes=notes)


def _how_trained(study: Study) -> str:
    return (
        f"These models were trained for this table, each on {study.counts.capacity_images:,} images seen, this run on "
        f"{study.trained.images:,}, with the same other settings. Name longer trained ones by --capacity."
    )


def _trained(study: Study) -> Iterator[tuple[str, DiffusionAutoencoder]]:
    """Models with z_sem of each size, trained for this, or read where they are there already."""
    training = _training(study)
    key = hashlib.sha256(repr((training, study.train.rows.tolist(), study.train.pack.index)).encode()).hexdigest()[:12]
    pack = _training_pack(study.train, study.work / f"train-{key}.pack")
    for size in study.counts.capacities:
        config = replace(study.model.config, network=replace(study.model.config.network, z_sem_channels=size))
        folder = study.work / f"capacity-{size}-{key}"
        again = (folder / "config.json").is_file()
        there = _finished(folder, config, training.images)
        if not there and not train_autoencoder(pack, folder, config, training, overwrite=again):
            raise KeyboardInterrupt
        yield f"z_sem of {size}", DiffusionAutoencoder.from_pretrained(folder)


def _training(study: Study) -> TrainingConfig:
    """As this run was trained, but shorter."""
    images = study.counts.capacity_images
    return replace(
        study.trained, images=images, warmup_images=images // 20, val_images=64, validate_every=images,
        save_every=images, seed=study.seed,
    )  # fmt: skip


def _finished(folder, config, images: int) -> bool:
    from diffae import checkpoint

    try:
        there = checkpoint.read_config(folder)
        same = checkpoint.read_model_config(folder) == config and there["training"]["images"] == images
        _, texts = checkpoint.read_tensors(folder / "training" / "state.safetensors")
    except (CheckpointError, KeyError):
        return False
    return same and int(texts["step"]) * there["training"]["batch_size"] >= images


def _training_pack(images: Images, path: Path) -> Pack:
    """The rows that the model was trained on, as a pack of their own."""
    if path.exists():
        return Pack.open(path)
    chunks = (images.pack.fetch(rows) for rows in np.split(images.rows, range(_CHUNK, len(images), _CHUNK)))
    return Pack.from_arrays(chunks, path, [images.pack.names[int(row)] for row in images.rows])


def _area(study: Study, model: DiffusionAutoencoder) -> float:
    known, tested = study.labelled, study.tested
    one, other = (model.encode_semantic(images.tensor()).cpu().numpy() for images in (known, tested))
    return macro_average(
        [probe_attribute(name, one, known.labels[name], other, tested.labels[name]) for name in study.readable[0]]
    )
