"""Which images are trained on, and which validate."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

from diffae.data.image_set import ImageSet, Split, split_by_name
from diffae.errors import DataError
from diffae.training.settings import TrainingConfig

MINIMUM_IMAGES = 10
"""Fewer images are refused: one of ten is held out, and nothing can be learnt from the rest."""


VALIDATION = ("val", "valid", "validation")
"""Names of the part of images to validate on, in the label "split"."""


def held_out(images: ImageSet, config: TrainingConfig) -> Split:
    """Indices of the training and of the validation images.

    Where images have a label "split", those of "train" are trained on, and at most `val_images` of "val" validate.
    Without "val", or without that label, `val_images` are held out by their names, but at most a tenth.
    """
    parts = images.parts
    train = parts.get("train", np.arange(len(images)))
    if len(train) < MINIMUM_IMAGES:
        raise DataError(f"{len(train)} images are too few to train on: give at least {MINIMUM_IMAGES}")
    others = next((parts[name] for name in VALIDATION if "train" in parts and len(parts.get(name, ())) > 1), None)
    if others is not None and len(others) <= config.val_images:
        return train, others
    if others is not None:
        return train, others[split_by_name(_names(images, others), 0.999, config.val_images)[1]]
    names = _names(images, train) if "train" in parts else images.names
    kept, out = split_by_name(names, min(0.1, 2 * config.val_images / len(train)), config.val_images)
    if len(out) < 2:
        kept, out = split_by_name(names, 0.999, 2)  # two, to shuffle z_sem among
    return train[kept], train[out]


def _names(images: ImageSet, rows: Int64[np.ndarray, " k"]) -> list[str]:
    return [str(images.names[row]) for row in rows.tolist()]
