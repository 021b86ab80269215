"""A pack: images decoded once, all of one size, in a folder that training reads at random.

    faces-1f2e3d4c.pack/
      images.npy    (n, size, size, channels) uint8 or uint16
      names.txt     one name per line, in the order of the rows
      labels.csv    what is known about the images, where their source says it
      index.json    format, key, count, size, channels, dtype, crop, background, window, samples, source, skipped

The held-out split is not stored: it is a function of the names.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import hashlib
import io
import itertools
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from jaxtyping import Int64, Integer, UInt

from diffae.config import Crop, Window
from diffae.data.labels import LabelTable
from diffae.data.rows import ArrayFile, NameList, encode_name
from diffae.errors import ConfigError, DataError

FORMAT = 1
IMAGES, NAMES, LABELS = "images.npy", "names.txt", "labels.csv"
_U8, _U16 = np.dtype(np.uint8), np.dtype(np.uint16)


class Pack:
    """Images of one size on disk, read by index without keeping them in memory.

    Open one with `Pack.open`, make one with `diffae.data.build_pack` or `Pack.from_arrays`. It can be pickled, and
    read from several threads and processes at once.
    """

    def __init__(self, path: Path, index: dict[str, Any], rows: ArrayFile) -> None:
        self.path = path
        self.index = index
        self._rows = rows
        self.names: Sequence[str] = NameList(path / NAMES, len(rows))
        """Names of the images, read from disk as they are asked for."""

    @classmethod
    def open(cls, path: str | Path) -> Pack:
        """Open a pack's folder.

        Raises:
            DataError: not a pack, of an unknown format, or damaged.
        """
        path = Path(path)
        try:
            index = json.loads((path / "index.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"pack {path}: cannot be read ({error}); make it again from the images") from None
        if index.get("format") != FORMAT:
            raise DataError(f"pack {path}: has format {index.get('format')}, {FORMAT} is read; make it again")
        rows = ArrayFile(path / IMAGES)
        stated = (index.get("count"), index.get("size"), index.get("size"), index.get("channels"))
        if rows.shape != stated or not (path / NAMES).is_file():
            raise DataError(f"pack {path}: images of shape {rows.shape} where {stated} is stated; make it again")
        return cls(path, index, rows)

    @classmethod
    def from_arrays(cls, chunks: Iterable[np.ndarray], path: str | Path, names: Iterable[str] | None = None) -> Pack:
        """Write a pack from arrays that are made chunk by chunk; a single array goes as [array].

        Args:
            chunks: uint8 or uint16 arrays (k, h, w, c), all of one square size, number of channels and type.
            path: the pack's folder, which must not exist yet; it appears when it is complete.
            names: one for each image; the index as eight digits when not given.
        Raises:
            DataError: no images, differing or not square chunks, too few names, a path that exists, or a full disk.
        """
        path, chunks = Path(path), iter(chunks)
        named = iter(names) if names is not None else (f"{number:08d}" for number in itertools.count())
        first = next(chunks, None)
        if first is None or first.ndim != 4 or first.shape[1] != first.shape[2] or first.dtype not in (_U8, _U16):
            got = "nothing" if first is None else f"{first.dtype} of shape {first.shape}"
            raise DataError(f"pack {path}: chunks must be uint8 or uint16 of shape (k, size, size, c), got {got}")
        with locked(path.parent):
            if path.exists():
                raise DataError(f"pack {path}: exists already; remove it or choose another path")
            with PackWriter(path, first.shape[1], first.shape[3], first.dtype) as writer:
                for chunk in itertools.chain([first], chunks):
                    writer.append(chunk, list(itertools.islice(named, len(chunk))))
                writer.finish({"key": None, "crop": None, "background": None, "source": "arrays", "skipped": []})
        return cls.open(path)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"Pack({self.path.name}: {len(self)} images, {self.size}x{self.size}x{self.channels} {self.dtype})"

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, size, size, channels)."""
        return self._rows.shape

    @property
    def dtype(self) -> np.dtype:
        """uint8 or uint16."""
        return self._rows.dtype

    @property
    def size(self) -> int:
        """Side of the images in pixels."""
        return self.shape[1]

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return self.shape[3]

    @property
    def crop(self) -> Crop | None:
        """What was cut out of the files."""
        crop = self.index.get("crop")
        return tuple(crop) if isinstance(crop, list) else crop

    @property
    def window(self) -> Window | None:
        """(low, high) of each channel, the files' values that became 0 and 65535; None where samples are as in them."""
        window = self.index.get("window")
        return window and tuple((low, high) for low, high in window)

    @property
    def samples(self) -> str:
        """Type of the samples in the files."""
        return self.index.get("samples", self.dtype.name)

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """Name and reason of each image that was left out because it could not be read."""
        return [(name, reason) for name, reason in self.index["skipped"]]

    @property
    def labels(self) -> LabelTable | None:
        """What the source said about the images, read from disk; None where it said nothing of use.

        Raises:
            DataError: labels.csv is damaged.
        """
        path = self.path / LABELS
        table = LabelTable.read(path) if path.is_file() else None
        return table if table and table.columns else None

    def fetch(self, indices: Integer[np.ndarray, " k"]) -> UInt[np.ndarray, "k h w c"]:
        """The images at these indices, 0..len - 1, copied from disk.

        Raises:
            IndexError: an index outside the pack.
        """
        return self._rows.fetch(indices)

    def split(
        self, val_fraction: float = 0.05, max_val: int = 1000
    ) -> tuple[Int64[np.ndarray, " n_train"], Int64[np.ndarray, " n_val"]]:
        """Indices for training and, held out, for validation; each image on one side, each side in ascending order.

        Every name is hashed to a number in [0, 1); those below `val_fraction` are held out, lowest first, up to
        `max_val` of them, at least one, and never all. So the split depends on nothing but the names, and while
        fewer than `max_val` are held out, images that are added move none from one side to the other.

        Args:
            val_fraction: 0 holds nothing out.
            max_val: the most to hold out.
        Raises:
            ConfigError: a fraction outside [0, 1) or a max_val below 1.
        """
        if not 0 <= val_fraction < 1 or max_val < 1:
            got = f"val_fraction is {val_fraction} and max_val is {max_val}"
            raise ConfigError(f"{got}, they must be in [0, 1) and at least 1; use for instance 0.05 and 1000")
        if val_fraction == 0 or len(self) < 2:
            return np.arange(len(self)), np.arange(0)
        hashes = np.fromiter((_hash_to_unit(name) for name in self.names), np.float64, len(self))
        count = min(max(int((hashes < val_fraction).sum()), 1), max_val, len(self) - 1)
        held_out = np.zeros(len(self), bool)
        held_out[np.argsort(hashes, kind="stable")[:count]] = True
        return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _hash_to_unit(name: str) -> float:
    return int.from_bytes(hashlib.blake2b(encode_name(name), digest_size=6).digest(), "big") / 2**48


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process at a time write packs in a folder, made if needed; the lock ends with the process at the latest.

    Raises:
        DataError: the folder cannot be made, written or locked.
    """
    with contextlib.ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context((folder / ".lock").open("a+b"))  # NFS locks only files that are open for writing
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            raise DataError(f"folder {folder}: cannot be used ({error.strerror}); choose another") from None
        yield


def beside_of(path: Path) -> Path:
    """The hidden folder in which the pack `path` is written."""
    return path.with_name(f".{path.name}.partial")


class PackWriter:
    """Writes a pack row by row in a hidden folder beside its place, and renames it when it is complete.

    A context manager, used inside `locked`: leaving it without `finish` removes what was written; what a killed
    process left is removed by the next writer of the same pack.

    Args:
        path: the pack's folder.
        size, channels, dtype: of the images.
        columns: names of the labels that come with each image; without any, no labels.csv is written.
    Raises:
        DataError: the disk is full, or cannot be written.
    """

    def __init__(self, path: Path, size: int, channels: int, dtype: np.dtype, columns: Sequence[str] = ()) -> None:
        self.path = path
        self.count = 0
        self._row_shape = (size, size, channels)
        self._dtype = np.dtype(dtype)
        self._columns = columns
        self.done = 0
        """Images looked at, those that are left out too."""
        self.skipped: list[tuple[str, str]] = []
        self._beside = beside_of(path)
        self._files: dict[str, IO[bytes]] = {}

    def __enter__(self) -> PackWriter:
        try:
            shutil.rmtree(self._beside, ignore_errors=True)
            self._beside.mkdir(parents=True)
            self._open("wb")
            self._files[IMAGES].write(self._header())
            if self._columns:
                self._files[LABELS].write(_csv([("file", *self._columns)]))
        except OSError as error:
            raise self._explain(error) from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self._close()
        shutil.rmtree(self._beside, ignore_errors=True)

    def _open(self, mode: str) -> None:
        for name in (IMAGES, NAMES, LABELS) if self._columns else (IMAGES, NAMES):
            self._files[name] = (self._beside / name).open(mode)

    def _close(self) -> None:
        for file in self._files.values():
            with contextlib.suppress(OSError):  # a full disk again
                file.close()

    def append(
        self, images: UInt[np.ndarray, "k h w c"], names: Sequence[str], labels: Sequence[Sequence[str]] = ()
    ) -> None:
        """Add rows of the pack's shape and type, their names, and as many cells of labels as there are columns."""
        if images.shape[1:] != self._row_shape or images.dtype != self._dtype:
            wanted = f"{self._dtype} of shape (k, {', '.join(map(str, self._row_shape))})"
            raise DataError(f"pack {self.path}: got {images.dtype} of shape {images.shape}, not {wanted}; convert it")
        if len(names) != len(images):
            raise DataError(f"pack {self.path}: got {len(names)} names for {len(images)} images; give one for each")
        try:
            self._files[IMAGES].write(np.ascontiguousarray(images).data)
            self._files[NAMES].writelines(map(encode_name, names))
            if self._columns:
                self._files[LABELS].write(_csv([(name, *row) for name, row in zip(names, labels, strict=True)]))
        except OSError as error:
            raise self._explain(error) from None
        self.count += len(images)

    def looked_at(self, count: int, skipped: Sequence[tuple[str, str]] = ()) -> None:
        """Count images that were appended or are left out, the latter with name and reason."""
        self.done += count
        self.skipped += skipped

    def finish(self, index: dict[str, Any]) -> None:
        """Complete the files and put the folder in its place; `index` holds what is not seen from the arrays."""
        size, _, channels = self._row_shape
        facts = {"format": FORMAT, "count": self.count, "size": size, "channels": channels, "dtype": self._dtype.name}
        try:
            self._files[IMAGES].seek(0)
            self._files[IMAGES].write(self._header())
            self._flush()
            text = json.dumps({**facts, **index}, indent=1)
            (self._beside / "index.json").write_text(text + "\n", encoding="utf-8")
            os.rename(self._beside, self.path)
        except OSError as error:
            raise self._explain(error) from None

    def _flush(self) -> None:
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())

    def _header(self) -> bytes:
        """The .npy header, whose length does not depend on the number of rows (numpy leaves room for it to grow)."""
        buffer = io.BytesIO()
        shape = (self.count, *self._row_shape)
        facts = {"descr": self._dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(buffer, facts)
        return buffer.getvalue()

    def _explain(self, error: OSError) -> DataError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return DataError(f"pack {self.path}: the disk is full after {self.count} images; free some space")
        return DataError(f"pack {self.path}: cannot be written ({error.strerror}); choose another folder")


def _csv(rows: Sequence[Sequence[str]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode("utf-8", "surrogateescape")
