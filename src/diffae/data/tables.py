"""Tables of vectors and numbers for other programs: .parquet, .csv and .npy files, written piece by piece.

A piece maps the names of the columns to rows: texts (or None), numbers (n,), or vectors (n, d).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffae.checkpoint import written_beside
from diffae.data.arrays import write_chunks
from diffae.data.formats.base import library
from diffae.errors import DataError

HOW: Mapping[str, Any] = {"compression": "zstd", "use_dictionary": False}
"""How Parquet is written: vectors repeat nothing."""

Column = np.ndarray | Sequence[str | None] | Sequence[bytes]
Piece = Mapping[str, Column]


def require_pyarrow() -> Any:
    """pyarrow, which writes and reads Parquet; `ConfigError` where it is not installed."""
    return library("pyarrow.parquet", "tables", "Parquet")


def arrow_table(piece: Piece, metadata: Mapping[str, str] | None = None) -> Any:
    """A piece as an Arrow table: vectors as fixed-size lists, NaN among numbers as null."""
    require_pyarrow()
    import pyarrow as pa

    def column(values: Column) -> Any:
        if not isinstance(values, np.ndarray) and all(isinstance(value, bytes) for value in values) and len(values):
            return pa.array(values, pa.binary())
        if not isinstance(values, np.ndarray):  # file names that are not UTF-8 are shown escaped
            texts = [
                None if text is None else str(text).encode("utf-8", "backslashreplace").decode() for text in values
            ]
            return pa.array(texts, pa.string())
        if values.ndim == 1:
            return pa.array(values, from_pandas=True)
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])

    return pa.table({name: column(values) for name, values in piece.items()}, metadata=dict(metadata or {}))


def vectors_of(column: Any) -> np.ndarray:
    """The vectors (n, d) of an Arrow column of fixed-size lists."""
    flat = column.combine_chunks()
    chunks = [chunk.flatten().to_numpy() for chunk in getattr(flat, "chunks", [flat])]
    return np.concatenate(chunks or [np.empty(0, np.float32)]).reshape(len(column), column.type.list_size)


def write_parquet(path: Path, pieces: Iterable[Piece], metadata: Mapping[str, str] | None = None) -> None:
    """Write a Parquet file atomically, one row group for each piece.

    Raises:
        ConfigError: pyarrow is not installed.
        TrainingError: the file cannot be written.
    """
    parquet = require_pyarrow()
    with written_beside(path) as temporary:
        writer = None
        try:
            for piece in pieces:
                table = arrow_table(piece, metadata)
                writer = writer or parquet.ParquetWriter(temporary, table.schema, **HOW)
                writer.write_table(table)
        finally:
            if writer:
                writer.close()


def write_csv(path: Path, pieces: Iterable[Piece]) -> None:
    """Write a CSV atomically; the numbers of a vector get columns of their own, NAME_0, NAME_1, ..."""
    with written_beside(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        for number, piece in enumerate(pieces):
            names, columns = [], []
            for name, values in piece.items():
                if isinstance(values, np.ndarray) and values.ndim == 2:
                    names += [f"{name}_{k}" for k in range(values.shape[1])]
                    columns += list(values.T)
                else:
                    names.append(name)
                    columns.append(values)
            if number == 0:
                writer.writerow(names)
            writer.writerows(zip(*(map(_cell, column) for column in columns), strict=True))


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return "" if value is None or value != value else value


def write_npy(path: Path, pieces: Iterable[Piece]) -> None:
    """Write the vectors alone, (n, d), atomically."""
    with written_beside(path) as temporary:
        arrays = (values for piece in pieces for values in piece.values() if isinstance(values, np.ndarray))
        write_chunks(temporary, (values for values in arrays if values.ndim == 2))


WRITERS: Mapping[str, Callable[[Path, Iterable[Piece]], None]] = {
    ".parquet": write_parquet,
    ".csv": write_csv,
    ".npy": write_npy,
}
"""How a table is written, by the suffix of its file."""


def check_table(path: Path, suffixes: Sequence[str]) -> None:
    """Raise `DataError` unless a file has one of these suffixes, and `ConfigError` where its library is missing."""
    if path.suffix not in suffixes:
        raise DataError(f"cannot write {path.name}: the suffix must be one of {', '.join(suffixes)}; rename it")
    if path.suffix == ".parquet":
        require_pyarrow()
