"""Edits that reach their target in the image: decode, encode again, read, correct."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from diffae.diffusion.settings import Sampling
from diffae.latent.attributes import AttributeDirections, Reading, Strength
from diffae.latent.codes import Code
from diffae.latent.directions import Decodes, with_z_sem

ROUNDS = 5
"""Corrections of an edit, each of which decodes it once more."""

NEAR = 0.05
"""An edit has reached its target when the image reads within this probability of it, or for numbers within this
fraction of the change that was asked for."""

MOST = 3.0
"""A correction stays within so many times the way to the target, from the original or from the edited image."""


class Codec(Decodes, Protocol):
    """What `edit_images` needs of a model."""

    def encode_semantic(self, images: Tensor) -> Tensor:
        """z_sem (b, d) of images (b, c, h, w) in [-1, 1]."""
        ...


@dataclass(frozen=True)
class Edits:
    """Edited images of one image, and what they read."""

    images: Float[Tensor, "n c h w"]
    """In about [-1, 1]."""
    before: Float64[np.ndarray, " k"]
    """Reading of each attribute from the image's z_sem."""
    asked: Float64[np.ndarray, "n k"]
    """Reading of each attribute from the edited z_sem, before any correction."""
    read: Float64[np.ndarray, "n k"]
    """Reading of each attribute from the edited images, encoded again."""


def edit_images(
    model: Codec,
    attributes: AttributeDirections,
    code: Code,
    steps: Sequence[Mapping[str, Strength]],
    *,
    hold: Collection[str] = (),
    published: bool = False,
    rounds: int = ROUNDS,
    sampling: Sampling | None = None,
) -> Edits:
    """Edit one image in several ways, so that what the decoded images read reaches the targets of the edits.

    The decoder does not follow z_sem to the letter: an edited image, encoded again, reads less than its code. Targets
    ("median", "p=0.9" and values) are therefore corrected by the remaining gap, up to `rounds` times; the closest image
    is returned. Steps of a given length are taken as they are.

    Args:
        model: encodes and decodes.
        attributes: fitted to the model's z_sem.
        code: z_sem and x_T of one image.
        steps: the changes of each edited image, see `AttributeDirections.edit`.
        hold, published: see `AttributeDirections.edit`.
        rounds: corrections, 0 or more.
        sampling: how x_T was found.

    Raises:
        ConfigError, DataError: see `AttributeDirections.edit`.
    """
    assert code.z_sem is not None
    before = attributes.read(code.z_sem)[0]
    goals = [{name: goal for name in step if (goal := attributes.goal(name, step[name])) is not None} for step in steps]
    wanted: list[dict[str, Strength]] = [dict(step) for step in steps]
    best: Edits | None = None
    error = np.full(len(steps), np.inf)
    for _ in range(rounds + 1):
        codes = [attributes.edit_all(code, changes, hold=hold, published=published).z_sem for changes in wanted]
        z_sem = torch.cat([z for z in codes if z is not None])
        images = model.decode(with_z_sem(code, z_sem), sampling=sampling)
        read = attributes.read(model.encode_semantic(images.clamp(-1, 1)))
        if best is None:
            best = Edits(images, before, attributes.read(z_sem), read)
        now = np.array([_error(attributes, goals[n], before, read[n]) for n in range(len(steps))])
        best = _closer(best, images, read, now < error)
        error = np.minimum(error, now)
        if (error <= NEAR).all():
            break
        for n, goal in enumerate(goals):
            wanted[n] |= {name: _corrected(attributes, wanted[n][name], name, goal, before, read[n]) for name in goal}
    assert best is not None
    return best


def _error(attributes: AttributeDirections, goals: Mapping[str, float], before: np.ndarray, read: np.ndarray) -> float:
    """The largest distance of a reading from its goal."""
    return max((distance(attributes, name, read, goal, before) for name, goal in goals.items()), default=0.0)


def distance(
    attributes: AttributeDirections,
    name: str,
    readings: Float64[np.ndarray, " k"],
    goal: float,
    before: Float64[np.ndarray, " k"],
) -> float:
    """How far a reading is from a goal: in probability, or for numbers as a fraction of the change from `before`."""
    from scipy.special import expit

    row = attributes.index(name)
    if attributes.attributes_[name].binary:
        return abs(float(expit(goal) - expit(readings[row])))
    return abs(goal - readings[row]) / max(abs(goal - before[row]), 1e-9)


def _corrected(
    attributes: AttributeDirections,
    wanted: Strength,
    name: str,
    goals: Mapping[str, float],
    before: np.ndarray,
    read: np.ndarray,
) -> Reading:
    """The next reading to ask for: the last one plus what is missing in the image."""
    place, goal = attributes.index(name), goals[name]
    last = wanted if isinstance(wanted, Reading) else goal
    most = MOST * max(abs(goal - before[place]), abs(goal - read[place]))
    return Reading(np.clip(float(last) + goal - read[place], goal - most, goal + most))


def _closer(best: Edits, images: Tensor, read: np.ndarray, better: Bool[np.ndarray, " n"]) -> Edits:
    rows = torch.from_numpy(better).to(images.device)[:, None, None, None]
    read = np.where(better[:, None], read, best.read)
    return Edits(torch.where(rows, images, best.images), best.before, best.asked, read)
