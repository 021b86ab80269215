"""Attribute directions: linear classifiers and regressions on z_sem, and edits along them (Section 5.3).

Each attribute has one linear probe on z_norm, which is z_sem with zero mean and unit variance. An edit moves z_norm and
keeps x_T: as published, along the probe's weight vector w (Eq. 11); by default along C w, where C is the covariance of
z_norm. C w is the average difference between images whose readings differ. If z_sem hardly varies in most directions,
w lies mostly in those, and moving along it changes the reading but not the image (docs/attributes.md).
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from diffae import checkpoint
from diffae.checkpoint import Fingerprint
from diffae.config import from_dict
from diffae.errors import CheckpointError, ConfigError, DataError, reading
from diffae.latent.attribute_labels import Labels, Target, targets_from
from diffae.latent.codes import Code
from diffae.latent.probes import Plane, Score, fit_plane, require_fitted

ATTRIBUTES = "attributes.safetensors"
_FORMAT, _VERSION = "diffae_attributes", "1"
_TENSORS = ("mean", "std", "weights", "moves", "intercepts", "medians")
_RANK = 1e-10  # of the largest effect: less is rounding, as where two attributes are the same
_LEAST_LEFT = 0.02  # of a direction's length that must remain when others are held; less is rounding


class Reading(float):
    """A reading to reach, as a strength of an edit: a logit, or the value of a number."""


Strength = float | str
"""How far to edit; see `AttributeDirections.edit`."""


@dataclass(frozen=True)
class Attribute:
    """Facts about one direction."""

    name: str
    """The label column, or "column:class" for one of several classes."""
    kind: str
    """One of "binary", "number" and "class"."""
    column: str
    n: int
    """Images whose value is known."""
    positives: int | None
    """How many of them have the attribute; None for numbers."""
    score: Score
    """How well it is predicted from z_sem of held-out images."""

    @property
    def binary(self) -> bool:
        """Whether the reading is a logit."""
        return self.kind != "number"


class AttributeDirections:
    """Linear probes on z_sem, and edits along their directions. Fit them, or `load` them from a run folder.

    An estimator of scikit-learn without settings, whose y is a table of labels: it can be cloned and pickled.

    Attributes:
        names_: the directions' names, in order.
        kinds_: "binary", "number" or "class" for each name.
        attributes_: an `Attribute` for each name.
        mean_, std_: (d,) of the fitted codes: z_norm = (z_sem - mean_) / std_.
        weights_: (k, d) and
        intercepts_: (k,) of the probes on z_norm, which give logits, or values of numbers.
        moves_: (k, d) weights_ times the covariance of z_norm: the covariance of each reading with z_norm.
        medians_: (k,) median logit of the images that have the attribute; NaN for numbers, and where unknown.
    """

    attributes_: dict[str, Attribute]
    mean_: Float64[np.ndarray, " d"]
    std_: Float64[np.ndarray, " d"]
    weights_: Float64[np.ndarray, "k d"]
    moves_: Float64[np.ndarray, "k d"]
    intercepts_: Float64[np.ndarray, " k"]
    medians_: Float64[np.ndarray, " k"]

    # ------------------------------------------------------------------ fitting

    def fit(
        self,
        z_sem: Float[Tensor, "n d"] | Float[np.ndarray, "n d"],
        labels: Labels,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> AttributeDirections:
        """Fit a probe to every column.

        Binary columns get logistic regression, numbers ridge regression, and columns of several classes one logistic
        regression per class against the others. Classes are weighted equally; unknown values are ignored; the
        regularisation is chosen by cross-validation. `Attribute.score` is measured on a held-out fifth of the images;
        the probe itself is then fitted to all.

        Args:
            z_sem: codes of n images.
            labels: a table whose rows are these images (see `LabelTable.for_images`), a DataFrame or an Arrow table;
                or n values for each name: 0 and 1 (or -1 and 1, or bool), numbers, or words, where NaN is unknown; or
                targets from `split_columns`.
            progress: called with the number of attributes done so far.
        Raises:
            DataError: codes that are not finite; labels of another length; a column with only one class, with fewer
                than 5 examples of a class, with fewer than 10 numbers, or with constant numbers.
        """
        z = _as_array(z_sem)
        if z.ndim != 2 or len(z) == 0 or not np.isfinite(z).all():
            raise DataError(f"z_sem has shape {z.shape}: must be (images, d) and finite; encode the images again")
        targets = targets_from(labels, len(z))
        self.mean_ = z.mean(axis=0, dtype=np.float64)
        std = z.std(axis=0, dtype=np.float64)
        self.std_ = np.where(std > 0, std, 1.0)
        x = self.normalise(z)
        planes, medians, self.attributes_ = [], [], {}
        for done, one in enumerate(targets, 1):
            plane, median, attribute = self._fit_one(x, one)
            planes.append(plane)
            medians.append(median)
            self.attributes_[one.name] = attribute
            if progress:
                progress(done)
        self.weights_ = np.stack([plane.weight for plane in planes])
        self.moves_ = self.weights_ @ (x.T @ x / len(x))
        self.intercepts_ = np.array([plane.intercept for plane in planes])
        self.medians_ = np.array(medians)
        return self

    @staticmethod
    def _fit_one(x: Float64[np.ndarray, "n d"], target: Target) -> tuple[Plane, float, Attribute]:
        known = np.flatnonzero(~np.isnan(target.values))
        x, y = x[known], target.values[known]
        plane, score = fit_plane(x, y, binary=target.binary)
        median = float(np.median(plane.read(x[y == 1]))) if target.binary else math.nan
        positives = int(y.sum()) if target.binary else None
        return plane, median, Attribute(target.name, target.kind, target.column, len(y), positives, score)

    @property
    def names_(self) -> tuple[str, ...]:
        """The directions' names, in order."""
        return tuple(self.attributes_)

    @property
    def kinds_(self) -> dict[str, str]:
        """For each name "binary", "number" or "class"."""
        return {name: attribute.kind for name, attribute in self.attributes_.items()}

    # ------------------------------------------------------------------ reading

    def normalise(self, z_sem: Float[np.ndarray, "n d"]) -> Float64[np.ndarray, "n d"]:
        """z_sem => z_norm.

        Raises:
            NotFittedError: before `fit`.
            DataError: codes of another size.
        """
        require_fitted(self, "mean_")
        if z_sem.ndim != 2 or z_sem.shape[1] != len(self.mean_):
            made = f"these attributes are of codes (images, {len(self.mean_)})"
            raise DataError(f"z_sem has shape {z_sem.shape}: {made}; encode with the model they were fitted for")
        return (z_sem - self.mean_) / self.std_

    def read(self, z_sem: Float[Tensor, "n d"] | Float[np.ndarray, "n d"]) -> Float64[np.ndarray, "n k"]:
        """For each image and attribute the logit (of 1 against 0, classes equally frequent), or the number."""
        return self.normalise(_as_array(z_sem)) @ self.weights_.T + self.intercepts_

    def index(self, name: str) -> int:
        """The position of an attribute in `names_`.

        Raises:
            NotFittedError: before `fit`.
            ConfigError: no such attribute; suggests the nearest name.
        """
        require_fitted(self, "mean_")
        if name not in self.attributes_:
            lowered = {known.lower(): known for known in self.names_}
            near = difflib.get_close_matches(name.lower(), lowered, 1, 0.5)
            remedy = f"did you mean {lowered[near[0]]!r}?" if near else f"choose from {', '.join(self.names_)}"
            raise ConfigError(f"attribute {name!r} is not among the fitted ones; {remedy}")
        return self.names_.index(name)

    # ------------------------------------------------------------------ editing

    def edit(
        self, code: Code, name: str, strength: Strength, *, hold: Collection[str] = (), published: bool = False
    ) -> Code:
        """The code with one attribute changed; x_T is kept.

        Args:
            code: of one or several images, all of which are edited.
            name: the attribute.
            strength: for binary attributes and classes, a number s for a step of length s·sqrt(d) in z_norm (Eq. 11);
                "median" to reach the median logit of the images that have the attribute; "p=0.9" to reach a
                probability of 0.9. For number attributes the value to reach.
            hold: other attributes whose readings must not change; the direction is made conditional on them.
            published: move along the weight vector itself, as the paper does.
        Raises:
            ConfigError: an unknown name, or a strength that is not finite or not of this kind.
            DataError: codes of another size, or a direction of which nothing is left when the others are held.
        """
        return self.edit_all(code, {name: strength}, hold=hold, published=published)

    def edit_all(
        self, code: Code, changes: Mapping[str, Strength], *, hold: Collection[str] = (), published: bool = False
    ) -> Code:
        """As `edit`, for several attributes at once: all steps, then all targets together."""
        if code.z_sem is None:
            raise DataError("the code has no z_sem: attributes change z_sem; use a model with an encoder")
        z = self.normalise(_as_array(code.z_sem).astype(np.float64))
        parsed = {name: self._parse(name, strength) for name, strength in changes.items()}
        directions = {name: self.direction(name, hold, published=published) for name in parsed}
        for name, (step, _) in parsed.items():
            if step is not None:
                z = z + step * math.sqrt(z.shape[1]) * directions[name] / np.linalg.norm(directions[name])
        goals = {name: goal for name, (_, goal) in parsed.items() if goal is not None}
        if goals:
            rows = [self.index(name) for name in goals]
            along = np.stack([directions[name] for name in goals])
            gap = np.array(list(goals.values())) - (z @ self.weights_[rows].T + self.intercepts_[rows])
            z = z + gap @ np.linalg.pinv(along @ self.weights_[rows].T, rcond=_RANK) @ along
        moved = torch.from_numpy(z * self.std_ + self.mean_)
        return replace(code, z_sem=moved.to(code.z_sem))

    def direction(self, name: str, hold: Collection[str] = (), *, published: bool = False) -> Float64[np.ndarray, " d"]:
        """The direction of an attribute in z_norm, made orthogonal in effect to the attributes held.

        Raises:
            ConfigError: an unknown name, or one that is both changed and held.
            DataError: less than a fiftieth of it is left when the others are held.
        """
        moves, row, held = self.weights_ if published else self.moves_, self.index(name), list(map(self.index, hold))
        if row in held:
            raise ConfigError(f"attribute {name!r} is both changed and held; drop one of the two")
        if not held:
            return moves[row]
        effect = moves @ self.weights_.T  # of moving along one attribute on the reading of another; symmetric
        left = moves[row] - effect[row, held] @ np.linalg.pinv(effect[np.ix_(held, held)], rcond=_RANK) @ moves[held]
        if left @ self.weights_[row] < _LEAST_LEFT**2 * effect[row, row]:
            raise DataError(f"direction {name!r}: nothing is left of it when {', '.join(hold)} must stay; hold fewer")
        return left

    def goal(self, name: str, strength: Strength) -> float | None:
        """The reading that an edit of this strength is to reach; None for a step of a given length.

        Raises:
            ConfigError: an unknown name, or a strength that is not finite or not of this kind.
        """
        return self._parse(name, strength)[1]

    def others(self, changed: Collection[str]) -> tuple[str, ...]:
        """All attributes except these and other classes of the same columns."""
        columns = {self.attributes_[name].column for name in changed}
        return tuple(name for name, attribute in self.attributes_.items() if attribute.column not in columns)

    def _parse(self, name: str, strength: Strength) -> tuple[float | None, float | None]:
        """(step, None) or (None, the reading to reach)."""
        row, binary = self.index(name), self.attributes_[name].binary
        if isinstance(strength, Reading):
            return None, float(strength)
        if binary and strength == "median":
            if math.isnan(self.medians_[row]):
                raise ConfigError(f"strength of {name} is 'median': unknown for imported attributes; give a number")
            return None, float(self.medians_[row])
        if binary and isinstance(strength, str) and strength.startswith("p="):
            p = _number(name, strength[2:])
            if not 0 < p < 1:
                raise ConfigError(f"strength of {name} is {strength!r}: a probability must lie between 0 and 1")
            return None, math.log(p / (1 - p))
        value = _number(name, strength)
        if not math.isfinite(value):
            raise ConfigError(f"strength of {name} is {strength!r}: must be finite, for instance 0.3")
        return (value, None) if binary else (None, value)

    # ------------------------------------------------------------------ on disk

    def save(self, folder: str | Path, fingerprint: str) -> None:
        """Write attributes.safetensors into a run folder, atomically.

        Args:
            folder: the run folder.
            fingerprint: `DiffusionAutoencoder.fingerprint()` of the model whose codes these are.
        """
        tensors = {name: torch.from_numpy(getattr(self, f"{name}_")) for name in _TENSORS}
        about = json.dumps([asdict(attribute) for attribute in self.attributes_.values()])
        texts = {_FORMAT: _VERSION, "model": fingerprint, "attributes": about}
        checkpoint.write_tensors(Path(folder) / ATTRIBUTES, tensors, texts)

    @classmethod
    def load(cls, folder: str | Path, fingerprint: Fingerprint | None = None) -> AttributeDirections:
        """Read what `save` wrote.

        Args:
            folder: a run folder.
            fingerprint: of the model that will use them; None skips the check.
        Raises:
            CheckpointError: none there, damaged, or of another model.
        """
        path = Path(folder) / ATTRIBUTES
        if not path.is_file():
            how = f"`diffae attributes fit {folder} --labels labels.csv`"
            raise CheckpointError(f"{folder} has no attributes yet: fit some with {how}")
        tensors, texts = checkpoint.read_tensors(path)
        if fingerprint is not None and not fingerprint.matches(texts.get("model")):
            whose = f"belongs to a model with fingerprint {texts.get('model')}, this one's is {fingerprint}"
            raise CheckpointError(f"{path} {whose}: fit the attributes again")
        self = cls()
        with reading(path, "fit the attributes again", CheckpointError):
            found = [from_dict(Attribute, entry) for entry in json.loads(texts["attributes"])]
            self.attributes_ = {attribute.name: attribute for attribute in found}
            for name in _TENSORS:
                setattr(self, f"{name}_", tensors[name].double().numpy())
            self._check_shapes()
        return self

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """No settings, for `sklearn.base.clone`."""
        return {}

    def _check_shapes(self) -> None:
        k, d = len(self.attributes_), len(self.mean_)
        shapes = {"mean": (d,), "std": (d,), "weights": (k, d), "moves": (k, d), "intercepts": (k,), "medians": (k,)}
        for name, shape in shapes.items():
            if (found := getattr(self, f"{name}_").shape) != shape:
                raise ValueError(f"{name} has shape {found}, not {shape}")


def _as_array(z: Tensor | np.ndarray) -> np.ndarray:
    return z.detach().cpu().numpy() if isinstance(z, Tensor) else np.asarray(z)


def _number(name: str, text: Strength) -> float:
    try:
        return float(text)
    except ValueError:
        forms = "must be a number, or for binary attributes median or p=0.9"
        raise ConfigError(f"strength of {name} is {text!r}: {forms}") from None
