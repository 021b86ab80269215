"""A studio of a tiny model with attributes, a prior and a data set of noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tiny import images, tiny_model

from diffae.config import PriorConfig, Sampling
from diffae.data.images import to_tensor
from diffae.data.labels import LabelTable
from diffae.data.pack import Pack
from diffae.latent.attributes import AttributeDirections
from diffae.latent.prior import LatentPrior
from diffae.networks.mlp import SkipMLP
from diffae.studio.context import Studio, open_studio
from diffae.studio.gallery import Opened

COUNT = 40


def save_run(folder: Path, *, prior: bool = True, attributes: bool = True) -> Path:
    """A run folder: attributes `bright` (binary) and `tone` (a number) of images of noise, and a random prior."""
    model = tiny_model()
    torch.manual_seed(0)
    if prior:
        config = PriorConfig(hidden_channels=8, layers=2)
        model.prior = LatentPrior(config, SkipMLP(6, 8, 2), torch.zeros(6), torch.ones(6))
    model.save_pretrained(folder)
    if attributes:
        z_sem = model.encode_semantic(images(COUNT))
        first, second = ((z_sem - z_sem.mean(dim=0)) / z_sem.std(dim=0)).T[:2].double().numpy()
        values = {"bright": (first > 0).astype(float), "tone": 40 + 10 * (first + second)}
        AttributeDirections().fit(z_sem, values).save(folder, model.fingerprint())
    return folder


def noise_faces(folder: Path) -> Opened:
    """Images of noise with labels."""
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 16, 16, 3), dtype=np.uint8)
    names = [f"noise_{row}.png" for row in range(COUNT)]
    pack = Pack.from_arrays([pixels], folder / "pack", names)
    values = np.stack([np.arange(COUNT) % 2, np.arange(COUNT)], axis=1).astype(float)
    return Opened(pack, LabelTable(tuple(names), ("odd", "row"), values, {"odd": "binary", "row": "number"}), folder)


def tiny_studio(folder: Path, *, may_save: bool = False, **parts: bool) -> Studio:
    """A studio, whose data set is opened when it starts."""
    run = save_run(folder / "run", **parts)
    studio = open_studio(run, lambda model: noise_faces(folder), name="runs/noise", may_save=may_save)
    studio.exact, studio.draft = Sampling(steps=4), Sampling(steps=2)
    return studio


def row_image(studio: Studio, row: int) -> torch.Tensor:
    """An image of the data set in [-1, 1]."""
    return to_tensor(studio.gallery.opened.pack.fetch(np.array([row])))
