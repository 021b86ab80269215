"""Latents of the training images, computed once by a pretrained first stage, and their normalisation."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from jaxtyping import Integer
from rich.console import Console
from torch import Tensor

from diffae.console import progress
from diffae.data.image_set import ImageSet
from diffae.data.images import to_tensor
from diffae.data.pack import Pack
from diffae.data.stored_views import StoredViews, store_views
from diffae.model import DiffusionAutoencoder, default_device
from diffae.networks.first_stages.pretrained import Autoencoder

_MEASURED = 1024
"""Images that the normalisation is measured on where no latents are stored."""


@torch.no_grad()
def stored_latents(
    model: DiffusionAutoencoder,
    images: ImageSet,
    rows: Integer[np.ndarray, " n"],
    console: Console,
    *,
    mirrored: bool,
) -> StoredViews | None:
    """The file of latents of a pack, made if needed; None for a first stage that is cheap, or images in no pack.

    Where the model's first stage has no normalisation yet, it is measured, and becomes part of the model's settings.

    Args:
        model: its first stage is moved to the device that computes.
        images: the images.
        rows: the training images among them.
        console: for a progress bar.
        mirrored: also store the latents of mirror images.
    """
    stage = model.first_stage
    if not isinstance(stage, Autoencoder):
        return None
    device = default_device()
    stage.to(device)

    def compute(x: Tensor) -> Tensor:
        return stage.encode_raw(x.to(device))

    if not isinstance(images, Pack):
        if not stage.config.mean:
            some = compute(to_tensor(images.fetch(rows[:_MEASURED])))
            std, mean = torch.std_mean(some.double(), dim=(0, 2, 3), correction=0)
            _normalise(model, stage, mean.cpu().numpy(), std.cpu().numpy())
        return None
    with progress("latents", len(images), output=console) as done:
        views = store_views(images, f"latents {stage.key}", compute, mirrored=mirrored, progress=done)
    if not stage.config.mean:
        _normalise(model, stage, *views.moments(rows))
    return views


def _normalise(model: DiffusionAutoencoder, stage: Autoencoder, mean: np.ndarray, std: np.ndarray) -> None:
    settings = stage.normalise_by(tuple(mean.tolist()), tuple(std.tolist()))
    model.config = dataclasses.replace(model.config, first_stage=settings)
