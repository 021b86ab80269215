"""Large .npy files and lists of names, read and written row by row."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, overload

import numpy as np
from jaxtyping import Integer

from diffae.errors import DataError, reading

_LONGEST = 2**16  # bytes of a name


class ArrayFile:
    """Rows of a .npy file, read in any order.

    Rows are read by seek and read, not through a memory map: touched pages of a map count as this process's memory,
    which for random rows of a 3 GB pack grew by all 3 GB in one epoch, where reading leaves it flat (measured). It
    costs about 2 microseconds per row. No file stays open, so threads, forked processes and pickles can share one.

    Raises:
        DataError: not a .npy file, a truncated one, or one that does not hold rows of numbers in C order.
    """

    def __init__(self, path: Path) -> None:
        with (
            reading(f"array {path}:", "make it again", damage="is not a complete .npy file"),
            path.open("rb") as file,
        ):
            self.shape, fortran, self.dtype = read_header(file, path.stat().st_size)
            self._offset = file.tell()
        if len(self.shape) < 2 or fortran or 0 in self.shape:
            rule = "must be an array in C order with at least two dimensions"
            raise DataError(f"array {path}: {rule}; save it with numpy.save(path, numpy.ascontiguousarray(a))")
        self.path = path
        self._row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> np.ndarray:
        return self.fetch(np.array([index]))[0]

    def fetch(self, indices: Integer[np.ndarray, " k"]) -> np.ndarray:
        """Copy the rows at these indices, 0..len - 1, into a new array (k, ...).

        Raises:
            DataError: the file has become shorter.
            IndexError: an index outside the array.
        """
        if len(indices) and (indices.min() < 0 or indices.max() >= len(self)):
            raise IndexError(f"row indices must lie in 0..{len(self) - 1}, got {indices.min()}..{indices.max()}")
        rows = np.empty((len(indices), *self.shape[1:]), self.dtype)
        octets = rows.view(np.uint8).reshape(len(indices), self._row_bytes)
        with self.path.open("rb", buffering=0) as file:
            for octet_row, index in zip(octets, indices.tolist(), strict=True):
                file.seek(self._offset + index * self._row_bytes)
                left = octet_row.data
                while left:  # a read may return less than is there
                    if not (done := file.readinto(left)):
                        raise DataError(f"array {self.path}: became shorter while it was read; make it again")
                    left = left[done:]
        return rows


def read_header(file: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read the header of a .npy file of `size` bytes: shape, whether in Fortran order, and type of the samples.

    Raises:
        ValueError: it does not hold so many samples, or samples that are not numbers. Others where it is damaged.
    """
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} is not read")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file, max_header_size=400)  # Python's parser fails on long ones
    if dtype.kind not in "biufc" or min(shape, default=0) < 0:
        raise ValueError(f"{dtype} of shape {shape}, not an array of numbers")
    needed, held = math.prod(shape) * dtype.itemsize, size - file.tell()
    if needed > held:
        raise ValueError(f"{dtype} of shape {shape} needs {needed} bytes, it holds {held}")
    return shape, fortran, dtype


def read_array(file: IO[bytes], size: int) -> np.ndarray:
    """Read a .npy file of `size` bytes; raises as `read_header` does, before it takes memory."""
    shape, fortran, dtype = read_header(file, size)
    samples = np.frombuffer(file.read(math.prod(shape) * dtype.itemsize), dtype)
    return samples.reshape(shape, order="F" if fortran else "C")


def write_header(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Write the header of a .npy file. Its length does not depend on the number of rows, so it can be rewritten."""
    facts = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, facts)  # pads the header so that the first axis can grow


def write_chunks(path: Path, chunks: Iterable[np.ndarray]) -> None:
    """Write arrays (k, ...) of one type as a single .npy file, holding one of them in memory at a time."""
    count, row, dtype = 0, (), np.dtype(np.float32)
    with path.open("wb") as file:
        for chunk in chunks:
            if not count:
                row, dtype = chunk.shape[1:], chunk.dtype
                write_header(file, (0, *row), dtype)
            file.write(np.ascontiguousarray(chunk).data)
            count += len(chunk)
        file.seek(0)
        write_header(file, (count, *row), dtype)


class RowNames(Sequence[str]):
    """The rows of an array as names: numbers of eight digits, which take no memory.

    Args:
        rows: their numbers.
    """

    def __init__(self, rows: Sequence[int]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> RowNames: ...
    def __getitem__(self, index: int | slice) -> str | RowNames:
        return RowNames(self._rows[index]) if isinstance(index, slice) else f"{self._rows[index]:08d}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and [*self] == [*other]

    __hash__ = None  # pyright: ignore[reportAssignmentType]


class NameList(Sequence[str]):
    """Names in a text file, one per line. Only the start of each line is kept in memory, from the first access on."""

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
            if self.path.stat().st_size > self._count * _LONGEST:
                raise DataError(f"names {self.path}: is too large for {self._count} names; make it again")
            ends = np.flatnonzero(np.frombuffer(self.path.read_bytes(), np.uint8) == ord("\n"))
            self._starts = np.concatenate([[0], ends + 1])
        if positions + 1 >= len(self._starts):
            raise DataError(f"names {self.path}: has {len(self._starts) - 1} lines, not {self._count}; make it again")
        start, end = self._starts[positions : positions + 2].tolist()
        with self.path.open("rb") as file:
            file.seek(start)
            return _decode(file.read(end - start))


def encode_name(name: str) -> bytes:
    """Encode a name as one line; bytes of file names that are not UTF-8 survive.

    Raises:
        DataError: a line break in the name.
    """
    if "\n" in name:
        raise DataError(f"image {name!r}: file names must not contain line breaks; rename it")
    return name.encode("utf-8", "surrogateescape") + b"\n"


def _decode(line: bytes) -> str:
    return line.removesuffix(b"\n").decode("utf-8", "surrogateescape")
