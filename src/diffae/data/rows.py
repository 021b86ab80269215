"""Reading single rows of large files: arrays in .npy files, and lists of names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np
from jaxtyping import Integer

from diffae.errors import DataError


class ArrayFile:
    """Rows of a .npy file, in any order.

    Rows are read by seek and read, not through a memory map: pages of a map that were touched count as this
    process's memory, which for random rows of a pack of 1,000,000 images of 32x32x3 grew by the whole 3 GB in one
    epoch, where reading leaves it flat (measured; the operating system caches the file either way). It costs about
    2 microseconds per row. No file stays open, so threads, forked processes and pickles share one safely.

    Raises:
        DataError: not a .npy file, a truncated one, or one that does not hold rows of numbers in C order.
    """

    def __init__(self, path: Path) -> None:
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)  # reads the header only
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"array {path}: is not a whole .npy file ({error}); make it again") from None
        if not isinstance(array, np.memmap) or array.ndim < 2 or not array.flags.c_contiguous or 0 in array.shape:
            rule = "must be an array in C order with at least two dimensions"
            raise DataError(f"array {path}: {rule}; save it with numpy.save(path, numpy.ascontiguousarray(a))")
        self.path = path
        self.shape: tuple[int, ...] = array.shape
        self.dtype: np.dtype = array.dtype
        self._offset = array.offset
        self._row_bytes = array.nbytes // len(array)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> np.ndarray:
        return self.fetch(np.array([index]))[0]

    def fetch(self, indices: Integer[np.ndarray, " k"]) -> np.ndarray:
        """The rows at these indices, 0..len - 1, as an array (k, ...) of their own.

        Raises:
            DataError: the file became shorter.
            IndexError: an index outside the array.
        """
        if len(indices) and (indices.min() < 0 or indices.max() >= len(self)):
            raise IndexError(f"row indices must lie in 0..{len(self) - 1}, got {indices.min()}..{indices.max()}")
        rows = np.empty((len(indices), *self.shape[1:]), self.dtype)
        octets = rows.view(np.uint8).reshape(len(indices), self._row_bytes)
        with self.path.open("rb", buffering=0) as file:
            for octet_row, index in zip(octets, indices.tolist(), strict=True):
                file.seek(self._offset + index * self._row_bytes)
                if file.readinto(octet_row.data) != self._row_bytes:
                    raise DataError(f"array {self.path}: became shorter while it was read; make it again")
        return rows


class NameList(Sequence[str]):
    """Names in a text file, one per line; only where each line begins is kept in memory, from the first use on."""

    def __init__(self, path: Path, count: int) -> None:
        self.path = path
        self._count = count
        self._starts: np.ndarray | None = None

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        with self.path.open("rb") as file:
            for line in file:
                yield _decode(line)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        positions = range(self._count)[index]
        if isinstance(positions, range):
            return [self[position] for position in positions]
        if self._starts is None:
            ends = np.flatnonzero(np.frombuffer(self.path.read_bytes(), np.uint8) == ord("\n"))
            self._starts = np.concatenate([[0], ends + 1])
        start, end = self._starts[positions : positions + 2].tolist()
        with self.path.open("rb") as file:
            file.seek(start)
            return _decode(file.read(end - start))


def encode_name(name: str) -> bytes:
    """A name as one line; bytes that are not UTF-8 in file names survive.

    Raises:
        DataError: a line break in the name.
    """
    if "\n" in name:
        raise DataError(f"image {name!r}: file names must not contain line breaks; rename it")
    return name.encode("utf-8", "surrogateescape") + b"\n"


def _decode(line: bytes) -> str:
    return line.removesuffix(b"\n").decode("utf-8", "surrogateescape")
