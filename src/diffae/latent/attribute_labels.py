"""Labels as targets of attribute directions: one array of values per direction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from diffae.data.arrays import RowNames
from diffae.data.label_frames import Frame
from diffae.data.labels import LabelTable
from diffae.errors import DataError
from diffae.latent.probes import LEAST_NUMBERS, LEAST_OF_CLASS


@dataclass(frozen=True)
class Target:
    """The values that one direction is fitted to."""

    name: str
    kind: str
    """One of "binary", "number" and "class"."""
    column: str
    values: Float64[np.ndarray, " n"]
    """0 and 1, or numbers; NaN where unknown."""

    @property
    def binary(self) -> bool:
        """Whether the values are 0 and 1."""
        return self.kind != "number"

    def of(self, rows: Int64[np.ndarray, " k"]) -> Target:
        """The same for some of the images."""
        return replace(self, values=self.values[rows])

    def problem(self) -> str | None:
        """Why no direction can be fitted to these values, with the remedy; None if one can."""
        known = self.values[~np.isnan(self.values)]
        remedy = "label more images or remove the column"
        if len(known) == 0:
            return f"attribute {self.name!r}: no value is known; {remedy}"
        if not np.isfinite(known).all():
            return f"attribute {self.name!r}: a value is infinite; correct it"
        if not self.binary:
            if len(known) < LEAST_NUMBERS:
                return f"attribute {self.name!r}: {len(known)} values are known, {LEAST_NUMBERS} are needed; {remedy}"
            same = (known == known[0]).all()
            return f"attribute {self.name!r}: all {len(known)} values are {known[0]:g}; {remedy}" if same else None
        ones = int((known == 1).sum())
        have = f"{ones} of {len(known)} images have it"
        if min(ones, len(known) - ones) == 0:
            return f"attribute {self.name!r} has one class: {have}, both with and without are needed; {remedy}"
        if min(ones, len(known) - ones) < LEAST_OF_CLASS:
            return f"attribute {self.name!r}: {have}, at least {LEAST_OF_CLASS} with and without are needed; {remedy}"
        return None


Labels = LabelTable | Mapping[str, Any] | Sequence[Target] | Frame
"""What directions are fitted to; see `diffae.AttributeDirections.fit`."""


def targets_from(labels: Labels, count: int) -> list[Target]:
    """The targets in labels of `count` images.

    Raises:
        DataError: labels of another number of images, no column, or a column that no direction can be fitted to.
    """
    if isinstance(labels, Frame):
        labels = LabelTable.of_frame(labels, names=RowNames(range(count)))
    targets = split_columns(labels) if isinstance(labels, (LabelTable, Mapping)) else list(labels)
    if not targets:
        raise DataError("labels have no column: at least one attribute is needed; add one")
    for one in targets:
        if len(one.values) != count:
            raise DataError(
                f"attribute {one.name!r} has {len(one.values)} values for {count} images; give one for each"
            )
        if problem := one.problem():
            raise DataError(problem)
    return targets


def folder_labels(names: Sequence[str]) -> LabelTable | None:
    """The first folder in each name as a class, in a column "folder"; None unless there are two."""
    folders = [name.partition("/")[0] if "/" in name else "" for name in names]
    classes = tuple(sorted({folder for folder in folders if folder}))
    if len(classes) < 2:
        return None
    code = {folder: float(place) for place, folder in enumerate(classes)}
    values = np.array([[code.get(folder, np.nan)] for folder in folders])
    return LabelTable(tuple(names), ("folder",), values, {"folder": "class"}, {"folder": classes})


def split_columns(labels: LabelTable | Mapping[str, Any]) -> list[Target]:
    """One target per column, and for columns of classes one per class; "split", which divides images, is none."""
    if isinstance(labels, LabelTable):
        columns = [(name, labels.column(name), labels.kinds[name], labels.classes.get(name)) for name in labels.columns]
    else:
        columns = [(str(name), *_understand(str(name), values)) for name, values in labels.items()]
    targets = []
    for name, values, kind, classes in columns:
        if name == "split" and classes is not None and "train" in classes:
            continue
        if classes is None:
            targets.append(Target(name, kind, name, values))
            continue
        for code, word in enumerate(classes):
            chosen = np.where(np.isnan(values), np.nan, values == code)
            targets.append(Target(f"{name}:{word}", kind, name, chosen))
    return targets


def _understand(name: str, given: Any) -> tuple[Float64[np.ndarray, " n"], str, tuple[str, ...] | None]:
    """Values, kind and classes of a plain list or array, by the rules of `LabelTable.read`."""
    values = np.asarray(given)
    if values.ndim != 1:
        raise DataError(f"attribute {name!r} has values of shape {values.shape}: must be one for each image")
    if values.dtype.kind in "US":
        words = tuple(str(word) for word in np.unique(values) if word)
        codes = {word: float(code) for code, word in enumerate(words)}
        return np.array([codes.get(str(value), np.nan) for value in values]), "class", words
    try:
        values = values.astype(np.float64)
    except (TypeError, ValueError):
        raise DataError(f"attribute {name!r} must hold either numbers or words; correct it") from None
    known = set(np.unique(values[~np.isnan(values)]).tolist())
    if known and (known <= {0.0, 1.0} or known <= {-1.0, 1.0}):
        return np.where(values == -1, 0.0, values), "binary", None
    return values, "number", None
