"""The attributes that a visitor sees: the run's, and the visitor's own, learnt from groups or directions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from scipy.special import expit, logit

from diffae.errors import ConfigError, require
from diffae.latent.attributes import AttributeDirections, Reading
from diffae.latent.directions import Directions

_SPREAD = 2.2  # standard deviations of readings that a slider covers to both sides
_SUREST = 0.999  # probability at the ends of a slider
_LONGEST_NAME = 40


def joined(first: AttributeDirections, second: AttributeDirections) -> AttributeDirections:
    """Both sets in one, in the units of z_norm of the first."""
    scale = first.std_ / second.std_
    both = AttributeDirections()
    both.mean_, both.std_ = first.mean_, first.std_
    both.attributes_ = first.attributes_ | second.attributes_
    shift = second.weights_ @ ((first.mean_ - second.mean_) / second.std_)
    both.weights_ = np.concatenate([first.weights_, second.weights_ * scale])
    both.moves_ = np.concatenate([first.moves_, second.moves_ / scale])
    both.intercepts_ = np.concatenate([first.intercepts_, second.intercepts_ + shift])
    both.medians_ = np.concatenate([first.medians_, second.medians_])
    return both


def checked_name(name: str, known: Sequence[str]) -> str:
    """A name for a new attribute.

    Raises:
        ConfigError: it is empty, long, or taken.
    """
    name = " ".join(name.split())
    require(0 < len(name) <= _LONGEST_NAME, "name", name, f"must have 1 to {_LONGEST_NAME} letters")
    require(name.isprintable() and "=" not in name, "name", name, "must be printable, without =")
    require(name not in known, "name", name, "is the name of another attribute; choose another")
    return name


def from_groups(
    z_sem: Float[np.ndarray, "n d"], name: str, has: Sequence[int], lacks: Sequence[int]
) -> AttributeDirections:
    """A binary attribute that tells two groups of images apart.

    Raises:
        ConfigError: an image is in both groups, or there is no such image.
        DataError: fewer than 5 images in one of them.
    """
    if both := set(has) & set(lacks):
        raise ConfigError(f"{len(both)} images are in both groups: draw the groups apart")
    labels = np.full(len(z_sem), math.nan)
    for value, rows in ((1.0, has), (0.0, lacks)):
        require(all(0 <= row < len(z_sem) for row in rows), "rows", list(rows[:3]), f"must lie in 0..{len(z_sem) - 1}")
        labels[list(rows)] = value
    return AttributeDirections().fit(z_sem, {name: labels})


def from_direction(z_sem: Float[np.ndarray, "n d"], name: str, found: Directions, index: int) -> AttributeDirections:
    """A number that grows by 1 for each standard deviation along a direction.

    Among all linear functions of which that is true, it is the one that is least correlated with the other directions:
    their covariance with the images makes it move along this direction alone.
    """
    require(0 <= index < len(found), "index", index, f"must lie in 0..{len(found) - 1}")
    std = z_sem.std(axis=0, dtype=np.float64)
    z_norm = (z_sem - z_sem.mean(axis=0, dtype=np.float64)) / np.where(std > 0, std, 1)
    vector = found.vectors[index] / np.where(std > 0, std, 1)
    weight = np.linalg.pinv(z_norm.T @ z_norm / len(z_norm), rcond=1e-6) @ vector
    return AttributeDirections().fit(z_sem, {name: z_norm @ (weight / (weight @ vector))})


# ---------------------------------------------------------------------- values that people know


def value_of(attributes: AttributeDirections, name: str, reading: float) -> float:
    """A reading as a probability, or as the value of a number."""
    return float(expit(reading)) if attributes.attributes_[name].binary else float(reading)


def readings_of(attributes: AttributeDirections, changes: Mapping[str, float]) -> dict[str, Reading]:
    """Probabilities and values of numbers as readings to reach.

    Raises:
        ConfigError: an unknown name, or a value that is not finite or no probability.
    """
    wanted = {}
    for name, value in changes.items():
        attributes.index(name)
        require(math.isfinite(value), name, value, "must be finite")
        if attributes.attributes_[name].binary:
            require(0 <= value <= 1, name, value, "must be a probability, from 0 to 1")
            value = float(logit(np.clip(value, 1 - _SUREST, _SUREST)))
        wanted[name] = Reading(value)
    return wanted


def slider_range(attributes: AttributeDirections, name: str) -> tuple[float, float]:
    """The readings at both ends of an attribute's slider."""
    row = attributes.index(name)
    middle, one = float(attributes.intercepts_[row]), attributes.attributes_[name]
    spread = _SPREAD * math.sqrt(max(float(attributes.weights_[row] @ attributes.moves_[row]), 1e-12))
    low, high = middle - spread, middle + spread
    if one.binary:
        end = float(logit(_SUREST))
        return -end, end
    return low, high


def strength_text(attributes: AttributeDirections, name: str, value: float) -> str:
    """A change as `diffae edit --set` takes it."""
    if attributes.attributes_[name].binary:
        return f"{name}=p={min(max(value, 1 - _SUREST), _SUREST):.4g}"
    return f"{name}=={value:.4g}"
