"""What pretrained parts of a model give of the training images: computed once, and measured for normalisation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Integer
from rich.console import Console
from torch import Tensor

from diffae.console import progress
from diffae.data.image_set import ImageSet
from diffae.data.images import to_tensor
from diffae.data.pack import Pack
from diffae.data.stored_views import Moments, StoredViews, store_views
from diffae.devices import default_device
from diffae.errors import DataError
from diffae.model import DiffusionAutoencoder
from diffae.networks.first_stages.pretrained import Autoencoder
from diffae.networks.foundation.encoder import FoundationEncoder

LATENTS, FEATURES = "latents", "features"

_MEASURED = 1024
"""Images that are measured where nothing is stored."""


@torch.no_grad()
def store_parts(
    model: DiffusionAutoencoder,
    images: ImageSet,
    rows: Integer[np.ndarray, " n"],
    console: Console,
    *,
    mirrored: bool,
) -> dict[str, StoredViews]:
    """Latents and features of the images of a pack, in files that are made if needed; of images in no pack, none.

    Where a first stage has no normalisation yet, it is measured, and becomes part of the model's settings; likewise the
    features' in the encoder.

    Args:
        model: pretrained parts are moved to the device that computes.
        images: the images.
        rows: the training images among them.
        console: for a progress bar.
        mirrored: also of mirror images.
    """
    stored: dict[str, StoredViews] = {}

    def moments(what: str, key: str, compute: Callable[[Tensor], Tensor]) -> Callable[[], Moments]:
        if not isinstance(images, Pack):
            return lambda: _measured(compute(to_tensor(images.fetch(rows[:_MEASURED]))))
        with progress(what, len(images), output=console) as done:
            views = store_views(images, f"{what} {key}", compute, mirrored=mirrored, progress=done)
        stored[what] = views
        return lambda: views.moments(rows)

    device, stage, encoder = default_device(), model.first_stage, model.encoder
    if isinstance(stage, Autoencoder):
        raw = stage.to(device).encode_raw
        measure = moments(LATENTS, stage.key, lambda x: raw(x.to(device)))
        if not stage.config.mean:
            _normalise(model, stage, measure())
    if isinstance(encoder, FoundationEncoder):
        network = encoder.network.to(device)
        measure = moments(FEATURES, network.key, lambda x: network(x.to(device)))
        if not encoder.standardised:
            encoder.standardise(*measure())
    return stored


def _measured(some: Tensor) -> Moments:
    values = some.double().movedim(1, -1).flatten(0, -2)
    std, mean = torch.std_mean(values, dim=0, correction=0)
    return Moments(mean.cpu(), std.cpu())


def _normalise(model: DiffusionAutoencoder, stage: Autoencoder, moments: Moments) -> None:
    if not bool((moments.std > 1e-6 * moments.std.max()).all()):
        raise DataError(f"channel {int(moments.std.argmin())} of the latents is constant: use another first stage")
    settings = stage.normalise_by(tuple(moments.mean.tolist()), tuple(moments.std.tolist()))
    model.config = dataclasses.replace(model.config, first_stage=settings)
