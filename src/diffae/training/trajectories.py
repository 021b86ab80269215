"""Trajectories of a decoder: what its student learns from. Made once, in parts, and kept in files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffae import checkpoint
from diffae.config import Sampling, to_dict
from diffae.data.image_set import ImageSet
from diffae.data.images import to_tensor
from diffae.diffusion import sampling as solving
from diffae.model import DiffusionAutoencoder
from diffae.model.student import milestones
from diffae.training.autoencoder import mix

PART = 64
"""Trajectories in a file."""

TOLERANCE = 1e-2
"""Of the inversion of images: one call a step reaches it. The trajectory is the decoder's own in any case."""


@dataclass(frozen=True)
class Trajectories:
    """z_sem of n images, and the states at `milestones` on the way from x_0 to x_T."""

    z_sem: Float[Tensor, "n d"] | None
    states: Float[Tensor, "n levels c h w"]


def trajectories(
    model: DiffusionAutoencoder,
    images: ImageSet,
    rows: np.ndarray,
    teacher: Sampling,
    seed: int,
    folder: Path,
    progress: Callable[[int], None],
) -> Trajectories:
    """Decode the z_sem of images, half from their own x_T and half from random x_T, and keep the states at milestones.

    Args:
        model: whose decoder is the teacher.
        images, rows: whose z_sem.
        teacher: how it decodes.
        seed: of random x_T.
        folder: of the files; those that exist are read.
        progress: called with the number of trajectories there are so far.
    """
    parts: list[dict[str, Tensor]] = []
    made = [model.fingerprint(), images.index["key"], to_dict(teacher), seed]
    for start in range(0, len(rows), PART):
        some = rows[start : start + PART]
        key = hashlib.sha256(json.dumps([*made, start, some.tolist()]).encode()).hexdigest()[:16]
        path = folder / f"trajectories-{key}.safetensors"
        if not path.is_file():
            generator = torch.Generator().manual_seed(mix(seed, start))
            found = decoded_states(model, to_tensor(images.fetch(some)), teacher, generator)
            checkpoint.write_tensors(path, {name: value.half() for name, value in found.items()}, {})
        parts.append(checkpoint.read_tensors(path)[0])
        progress(min(start + PART, len(rows)))
    whole = {name: torch.cat([part[name] for part in parts]).float() for name in parts[0]}
    return Trajectories(whole.get("z_sem"), whole["states"])


@torch.inference_mode()
def decoded_states(
    model: DiffusionAutoencoder, images: Tensor, teacher: Sampling, generator: torch.Generator
) -> dict[str, Tensor]:
    """The states of one part, `states`, and `z_sem` where there is an encoder."""
    own = model.encode(images[: len(images) // 2], replace(teacher, tolerance=TOLERANCE)).x_T
    assert own is not None
    drawn = torch.randn((len(images) - len(own), *own.shape[1:]), generator=generator).to(own)
    z_sem = model.encode_semantic(images) if model.config.has_encoder else None
    kept = milestones(teacher, model.process.levels)
    states: dict[int, Tensor] = {}

    def predict(x: Tensor, t: int) -> Tensor:
        if t in kept:
            states[t] = x
        return model.predict_noise(x, t, z_sem)

    states[0] = solving.decode(predict, torch.cat([own, drawn]), None, model.alpha_bar, teacher)
    found = {"states": torch.stack([states[t] for t in kept], dim=1)}
    return found if z_sem is None else found | {"z_sem": z_sem}
