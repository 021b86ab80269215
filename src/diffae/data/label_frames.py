"""Labels in DataFrames, Arrow tables and Parquet or Arrow files, as the cells that a CSV of them would have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from diffae.data.tables import require_pyarrow
from diffae.errors import DataError

MOST_COLUMNS = 10_000
SUFFIXES = (".parquet", ".feather", ".arrow")
_INDEX = "__index_level_0__"  # what the index of a DataFrame is called in Arrow


@runtime_checkable
class Frame(Protocol):
    """A DataFrame of pandas or polars, an Arrow table, or whatever else Arrow can read."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any: ...


def frame_cells(
    labels: Path | Frame, what: str | Path, names: Sequence[str] | None, file_columns: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Names of the columns except that of the files, and the rows with the file first.

    Args:
        labels: a frame, or the path of a file with one of SUFFIXES.
        what: what messages call it.
        names: the file of each row, where it is known; a column of files is dropped then.
        file_columns: what the column of the files may be called; else it is the index, else the first column.

    Raises:
        DataError: it cannot be read, or has rows of another number than `names`.
        ConfigError: pyarrow is not installed.
    """
    table = _table_of(labels, what)
    lowered = [name.lower() for name in table.column_names]
    place = next((lowered.index(name) for name in (*file_columns, _INDEX) if name in lowered), None)
    if names is None:
        place = place or 0
        names = list(map(_cell, table.column(place).to_pylist())) if lowered else []
    elif len(names) != table.num_rows:
        raise DataError(f"labels {what}: have {table.num_rows} rows for {len(names)} images; give one for each")
    kept = [k for k in range(table.num_columns) if k != place and _is_plain(table.schema.field(k).type)]
    columns = [list(map(_cell, table.column(k).to_pylist())) for k in kept]
    return [table.column_names[k] for k in kept], [list(row) for row in zip(names, *columns, strict=True)]


def _table_of(labels: Path | Frame, what: str | Path) -> Any:
    parquet = require_pyarrow()
    import pyarrow as pa
    from pyarrow import feather

    try:
        if not isinstance(labels, Path):
            return pa.table(labels)
        return parquet.read_table(labels) if labels.suffix == ".parquet" else feather.read_table(labels)
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"labels {what}: cannot be read as a table ({reason}); write it again") from None


def _is_plain(kind: Any) -> bool:
    """Whether cells are single values: vectors such as z_sem are no labels."""
    from pyarrow import types

    return not (types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind))


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value).strip()


def check_columns(count: int, where: str = "") -> None:
    """Raise `DataError` for more columns than the limit."""
    if count > MOST_COLUMNS:
        raise DataError(f"{where}there are {count} columns of labels, the limit is {MOST_COLUMNS}; remove some")
