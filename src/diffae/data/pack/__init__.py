"""A pack: images decoded once, all of one size, in a folder that training reads in any order.

    faces-1f2e3d4c.pack/
      images.npy    (n, size, size, channels) uint8 or uint16
      names.txt     one name per line, in the order of the rows
      labels.csv    labels of the images, if the source has any
      index.json    format, key, count, size, channels, dtype, crop, background, window, samples, source, skipped

The validation split is not stored: it is a function of the names.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, Integer, UInt

from diffae.config import Crop, InputConfig, Window
from diffae.data.arrays import ArrayFile, NameList
from diffae.data.image_set import ImageSet, parts_of
from diffae.data.labels import LabelTable
from diffae.data.locks import locked
from diffae.data.pack.writer import FORMAT, IMAGES, INDEX, LABELS, NAMES, PackWriter
from diffae.errors import ConfigError, DataError, reading

_READY = ("uint8", "uint16")


class Pack(ImageSet):
    """Images of one size on disk, read by index without keeping them in memory.

    Open one with `Pack.open`, make one with `diffae.data.build_pack` or `Pack.from_arrays`. It can be pickled, and
    read from several threads and processes at once.
    """

    def __init__(self, path: Path, index: dict[str, Any], rows: ArrayFile) -> None:
        self.path = path
        self.index: Mapping[str, Any] = index
        self._rows = rows
        self.names: Sequence[str] = NameList(path / NAMES, len(rows))
        """Names of the images, read from disk on access."""

    def names_digest(self) -> str:
        """SHA-256 of the names of the images in their order, in hexadecimal."""
        with (self.path / NAMES).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def split_digest(self) -> str | None:
        """SHA-256 of the indices of the images to train on, by their label "split"; None where they have none."""
        train = self.parts.get("train")
        return None if train is None else hashlib.sha256(train.tobytes()).hexdigest()

    def record(self) -> dict[str, Any]:
        """What a run records about the images that it is trained on."""
        found = {"count": len(self), "key": self.index["key"], "names": self.names_digest()}
        return found | ({"split": self.split_digest()} if "train" in self.parts else {})

    @classmethod
    def open(cls, path: str | Path) -> Pack:
        """Open a pack's folder.

        Raises:
            DataError: not a pack, of an unknown format, or damaged.
        """
        path = Path(path)
        with reading(f"pack {path}:", "make it again from the images", damage="cannot be read"):
            if not is_pack(path):  # opening a pipe would wait
                raise FileNotFoundError(f"it needs {IMAGES}, {NAMES} and {INDEX}")
            index = json.loads((path / INDEX).read_text(encoding="utf-8"))
            if index.get("format") != FORMAT:
                raise DataError(f"pack {path}: has format {index.get('format')}, {FORMAT} is read; make it again")
            rows = ArrayFile(path / IMAGES)
            stated = (index.get("count"), index.get("size"), index.get("size"), index.get("channels"))
            if rows.shape != stated:
                raise DataError(f"pack {path}: images of shape {rows.shape} where {stated} is stated; make it again")
            if rows.dtype.name not in _READY:
                raise DataError(
                    f"pack {path}: images of {rows.dtype}, they must be {' or '.join(_READY)}; make it again"
                )
            pack = cls(path, index, rows)
            pack._check()
        return pack

    def _check(self) -> None:
        """Raise for an index whose entries have other types or ranges than `PackWriter` writes; any error may come."""
        try:
            InputConfig(self.crop, window=self.window, dtype=self.samples)  # type: ignore[arg-type]
        except ConfigError as error:
            raise DataError(f"pack {self.path}: {error}; make it again from the images") from None
        if self.window is not None and len(self.window) != self.channels:
            raise ValueError(f"window has {len(self.window)} pairs for {self.channels} channels")
        if not all(isinstance(text, str) for pair in self.skipped for text in pair):
            raise ValueError("skipped holds no names and reasons")

    @classmethod
    def from_arrays(cls, chunks: Iterable[np.ndarray], path: str | Path, names: Iterable[str] | None = None) -> Pack:
        """Write a pack from arrays that are made chunk by chunk; pass a single array as [array].

        Args:
            chunks: uint8 or uint16 arrays (k, h, w, c), all of one square size, number of channels and type.
            path: the pack's folder, which must not exist yet; it appears when the pack is complete.
            names: one for each image; by default the index as eight digits.
        Raises:
            DataError: no images, differing or not square chunks, too few names, a path that exists, or a full disk.
        """
        path, chunks = Path(path), iter(chunks)
        named = iter(names) if names is not None else (f"{number:08d}" for number in itertools.count())
        first = next(chunks, None)
        if (
            first is None
            or first.ndim != 4
            or first.shape[1] != first.shape[2]
            or first.dtype not in ("uint8", "uint16")
        ):
            got = "nothing" if first is None else f"{first.dtype} of shape {first.shape}"
            raise DataError(f"pack {path}: chunks must be uint8 or uint16 of shape (k, size, size, c), got {got}")
        with locked(path.parent):
            if path.exists():
                raise DataError(f"pack {path}: exists already; remove it or choose another path")
            with PackWriter(path, first.shape[1:], first.dtype) as writer:
                for chunk in itertools.chain([first], chunks):
                    writer.append(chunk, list(itertools.islice(named, len(chunk))))
                writer.finish({"key": None, "crop": None, "background": None, "source": "arrays"})
        return cls.open(path)

    def __repr__(self) -> str:
        return f"Pack({self.path.name}: {len(self)} images, {self.size}x{self.size}x{self.channels} {self.dtype})"

    @property
    def shape(self) -> tuple[int, ...]:
        return self._rows.shape

    @property
    def dtype(self) -> np.dtype:
        return self._rows.dtype

    @property
    def crop(self) -> Crop | None:
        """What was cut out of the files."""
        crop = self.index.get("crop")
        return tuple(crop) if isinstance(crop, list) else crop

    @property
    def window(self) -> Window | None:
        window = self.index.get("window")
        return window and tuple((low, high) for low, high in window)

    @property
    def samples(self) -> str:
        return self.index.get("samples", self.dtype.name)

    @property
    def skipped(self) -> list[tuple[str, str]]:
        return [(name, reason) for name, reason in self.index["skipped"]]

    @property
    def labels(self) -> LabelTable | None:
        """Labels of the images, read from disk; None if the source had none.

        Raises:
            DataError: labels.csv is damaged.
        """
        path = self.path / LABELS
        table = LabelTable.read(path) if path.is_file() else None
        return table if table and table.columns else None

    @property
    def parts(self) -> dict[str, Int64[np.ndarray, " k"]]:
        return self._parts

    @cached_property
    def _parts(self) -> dict[str, Int64[np.ndarray, " k"]]:
        labels = self.labels
        return parts_of(labels) if labels else {}

    def fetch(self, indices: Integer[np.ndarray, " k"]) -> UInt[np.ndarray, "k h w c"]:
        return self._rows.fetch(indices)


def is_pack(folder: Path) -> bool:
    """Whether a folder is a pack."""
    return all((folder / part).is_file() for part in (IMAGES, NAMES, INDEX))
