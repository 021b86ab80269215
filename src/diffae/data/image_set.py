"""What training needs of a set of images: a `Pack`, a `DatasetImages`, or a subclass of `ImageSet` of your own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64, Integer, UInt

from diffae.config import Window
from diffae.data.arrays import encode_name
from diffae.data.labels import LabelTable
from diffae.errors import ConfigError

Split = tuple[Int64[np.ndarray, " n_train"], Int64[np.ndarray, " n_val"]]


@runtime_checkable
class ImageSet(Protocol):
    """Images of one size that can be read by index. A subclass defines the first five members; the others follow."""

    names: Sequence[str]
    """A name for each image."""
    index: Mapping[str, Any]
    """Facts about the images; "key" identifies their content."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, size, size, channels)."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """uint8 or uint16."""
        ...

    def fetch(self, indices: Integer[np.ndarray, " k"]) -> UInt[np.ndarray, "k h w c"]:
        """Read the images at these indices, 0..len - 1, into a new array.

        Raises:
            IndexError: an index outside this range.
        """
        ...

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """Side of the images in pixels."""
        return self.shape[1]

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return self.shape[3]

    @property
    def window(self) -> Window | None:
        """(low, high) of each channel: the source's values that became 0 and 65535. None if samples are unchanged."""
        return None

    @property
    def samples(self) -> str:
        """Type of the samples in the source."""
        return self.dtype.name

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """Name and reason of each image that was left out because it could not be read."""
        return []

    @property
    def parts(self) -> Mapping[str, Int64[np.ndarray, " k"]]:
        """Indices of the images by their label "split", such as "train" and "val"; empty where they have none."""
        return {}

    def split(self, val_fraction: float = 0.05, max_val: int = 1000) -> Split:
        """Indices for training and, held out, for validation; see `split_by_name`."""
        return split_by_name(self.names, val_fraction, max_val)


def split_labels(table: LabelTable) -> LabelTable | None:
    """The column "split" alone; None without such a column of classes."""
    if table.kinds.get("split") != "class":
        return None
    values = table.column("split")[:, None]
    return LabelTable(table.names, ("split",), values, {"split": "class"}, {"split": table.classes["split"]})


def parts_of(table: LabelTable) -> dict[str, Int64[np.ndarray, " k"]]:
    """Rows of a table by their class in the column "split"; empty without such a column of classes."""
    named = split_labels(table)
    classes = named.classes["split"] if named else ()
    return {name: np.flatnonzero(table.column("split") == place) for place, name in enumerate(classes)}


def split_by_name(names: Sequence[str], val_fraction: float = 0.05, max_val: int = 1000) -> Split:
    """Divide images into training and validation by a hash of their names.

    Every name is hashed to a number in [0, 1). Those below `val_fraction` are held out, lowest first: at most
    `max_val`, at least one, never all. The split depends on the names alone, and while fewer than `max_val` images are
    held out, adding images moves none from one side to the other.

    Args:
        names: of the images.
        val_fraction: in [0, 1); 0 holds nothing out.
        max_val: the most to hold out, at least 1.
    Returns:
        Indices for training and for validation, each in ascending order.
    Raises:
        ConfigError: a fraction outside [0, 1) or a max_val below 1.
    """
    if not 0 <= val_fraction < 1 or max_val < 1:
        got = f"val_fraction is {val_fraction} and max_val is {max_val}"
        raise ConfigError(f"{got}, they must be in [0, 1) and at least 1; use for instance 0.05 and 1000")
    if val_fraction == 0 or len(names) < 2:
        return np.arange(len(names)), np.arange(0)
    hashes = np.fromiter((_hash_to_unit(name) for name in names), np.float64, len(names))
    count = min(max(int((hashes < val_fraction).sum()), 1), max_val, len(names) - 1)
    held_out = np.zeros(len(names), bool)
    held_out[np.argsort(hashes, kind="stable")[:count]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _hash_to_unit(name: str) -> float:
    return int.from_bytes(hashlib.blake2b(encode_name(name), digest_size=6).digest(), "big") / 2**48
