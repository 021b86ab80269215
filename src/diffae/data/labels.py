"""Labels of images: one table, read from a CSV, from CelebA's text files, or from a DataFrame or Parquet."""

from __future__ import annotations

import csv
import difflib
import io
import logging
import math
import posixpath
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from diffae.checkpoint import written_beside
from diffae.data.label_frames import SUFFIXES, Frame, check_columns, frame_cells
from diffae.errors import DataError, TrainingError

_log = logging.getLogger(__name__)

KINDS = ("binary", "number", "class")
MOST_CLASSES = 100  # a text column with more different values is left out
_FILE_COLUMNS = ("file", "filename", "file_name", "image", "name", "path")
_UNKNOWN = ("", "nan", "na", "n/a", "null", "none", "?")
_WORDS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}
_MOST_DIGITS = 20  # of the number of rows
_LISTED = 3  # names given in an error
_SEVERAL = -2  # position of an image if several have the same name


@dataclass(frozen=True)
class LabelTable:
    """A table of labels: one row for each labelled image, one column for each label.

    Raises:
        DataError: shapes that do not agree, an unknown kind, or a repeated name or column.
    """

    names: tuple[str, ...]
    """The image files, as relative paths or file names."""
    columns: tuple[str, ...]
    """Names of the columns."""
    values: Float64[np.ndarray, "n columns"]
    """NaN if unknown. Binary columns hold 0 and 1, class columns the position in `classes`."""
    kinds: dict[str, str]
    """"binary", "number" or "class" for each column."""
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of the classes of each class column."""

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.names), len(self.columns)):
            wanted = f"{len(self.names)} names and {len(self.columns)} columns"
            raise DataError(f"label values have shape {self.values.shape}, there are {wanted}; give one value for each")
        _refuse_repeats(self.names, "names the image", "remove one row")
        _refuse_repeats(self.columns, "have the column", "rename one")
        for column in self.columns:
            kind = self.kinds.get(column)
            if kind not in KINDS or (kind == "class" and column not in self.classes):
                rule = f"must be one of {', '.join(KINDS)}, a class with its classes"
                raise DataError(f"label column {column!r} is of kind {kind!r}, it {rule}; set kinds and classes")

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def read(cls, path: str | Path | Frame) -> LabelTable:
        """Read a table from a file, or from a DataFrame or Arrow table.

        A CSV (separated by commas, semicolons or tabs) has the names of the columns on the first line. The files are in
        the column called file, filename, file_name, image, name or path, or else in the first. 0/1, -1/1, true/false
        and yes/no are binary, numbers are numbers, other words are classes; an empty cell, NA, NaN or ? is unknown.
        Numbers among words are words as well, and a column of more than 100 different words is left out; both are
        logged as warnings.

        CelebA's text files (list_attr_celeba.txt and CelebA-HQ's) have the number of rows on the first line, the
        names of the columns on the second, then a row for each image.

        Parquet and Feather files, DataFrames of pandas and polars and Arrow tables are taken as the CSV that they would
        be; without such a column, the index of a DataFrame names the files. Columns of vectors are left out.

        Raises:
            DataError: a file that cannot be read, rows of differing length, a wrong count, or repeated images or
                columns.
            ConfigError: a table, and pyarrow is not installed.
        """
        if isinstance(path, Frame):
            return cls.of_frame(path)
        path = Path(path)
        try:
            if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe would wait, a device never end
                raise DataError(f"labels {path}: is not a regular file; save it as one")
            if path.suffix.lower() in SUFFIXES:
                return cls.of_frame(path, path)
            return cls.parse(path.read_bytes(), path)
        except OSError as error:
            raise _unreadable(path, error) from None

    @classmethod
    def parse(cls, data: bytes, path: str | Path) -> LabelTable:
        """Parse the content of a file, called `path` in messages; see `read`."""
        try:
            text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig").read()
        except UnicodeDecodeError as error:
            raise _unreadable(path, error) from None
        first = text.lstrip().partition("\n")[0].strip()
        is_celeba = first.isascii() and first.isdecimal() and len(first) < _MOST_DIGITS
        columns, rows = _split_celeba(text, path) if is_celeba else _split_csv(text, path)
        return cls._of_cells(columns, rows, path)

    @classmethod
    def of_frame(
        cls, labels: Path | Frame, what: str | Path = "given as a table", names: Sequence[str] | None = None
    ) -> LabelTable:
        """As `read`, of a table that messages call `what`; `names` are the images of its rows, if they are known."""
        columns, rows = frame_cells(labels, what, names, _FILE_COLUMNS)
        _refuse_repeats(columns, "have the column", "rename one")
        return cls._of_cells(columns, rows, what)

    @classmethod
    def _of_cells(cls, columns: Sequence[str], rows: Sequence[Sequence[str]], path: str | Path) -> LabelTable:
        check_columns(len(columns), f"labels {path}: ")
        if not rows:
            raise DataError(f"labels {path}: no labels found, at least one row is needed; check the file")
        found = {name: _parse(name, [row[1 + place] for row in rows], path) for place, name in enumerate(columns)}
        parsed = {name: column for name, column in found.items() if column is not None}
        values = [column.values for column in parsed.values()]
        return cls(
            names=tuple(row[0] for row in rows),
            columns=tuple(parsed),
            values=np.stack(values, axis=1) if values else np.zeros((len(rows), 0)),
            kinds={name: column.kind for name, column in parsed.items()},
            classes={name: column.classes for name, column in parsed.items() if column.kind == "class"},
        )

    def column(self, name: str) -> Float64[np.ndarray, " n"]:
        """The values of one column, NaN if unknown.

        Raises:
            DataError: no such column.
        """
        if name not in self.columns:
            near = difflib.get_close_matches(name, self.columns, 1, 0.5)
            remedy = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(self.columns)}"
            raise DataError(f"label column {name!r} does not exist; {remedy}")
        return self.values[:, self.columns.index(name)]

    def align(self, names: Sequence[str], absent: Collection[str] = ()) -> Float64[np.ndarray, "images columns"]:
        """The values in the order of the given images, NaN for images without labels.

        Labels are matched to images by relative path, else by file name, else by file name without suffix.

        Args:
            names: the images, for instance `Pack.names`.
            absent: files that labels may name although they are not among the images, for instance skipped ones.
        Raises:
            DataError: labels for files that are in neither, or a file name that several images have.
        """
        places = np.full(len(self.names), -1)
        for key in (_whole, posixpath.basename, stem):
            rest = np.flatnonzero(places == -1)
            if len(rest):
                found = _places(names, key)
                places[rest] = [found.get(key(self.names[row]), -1) for row in rest]
        left_out = {stem(name) for name in absent}
        missing = [self.names[row] for row in np.flatnonzero(places == -1) if stem(self.names[row]) not in left_out]
        if missing:
            some = ", ".join(missing[:_LISTED]) + (", ..." if len(missing) > _LISTED else "")
            count = f"{len(missing)} of {len(self)} labels name files"
            raise DataError(f"{count} that are not among the {len(names)} images: {some}; correct or remove them")
        self._refuse_ambiguity(places)
        values = np.full((len(names), len(self.columns)), np.nan)
        values[places[places >= 0]] = self.values[places >= 0]
        return values

    def finder(self) -> Callable[[str], int | None]:
        """A function that gives the row of an image by its name: the relative path, else the file name, else that
        without suffix, where it is unambiguous among the labels."""
        keys = (_whole, posixpath.basename, stem)
        places = [(key, _places(self.names, key)) for key in keys]

        def row_of(name: str) -> int | None:
            return next((row for key, rows in places if (row := rows.get(key(name), -1)) >= 0), None)

        return row_of

    def for_images(self, names: Sequence[str]) -> LabelTable:
        """The table with one row for each of these images, in their order; labels of other files are dropped.

        Raises:
            DataError: no label is for one of them, or a file name that several images have.
        """
        strangers = self.strangers(names)
        if len(strangers) == len(self):
            rule = f"none names one of the {len(names)} images, such as {names[0]!r}"
            raise DataError(f"{len(self)} labels, the first for {self.names[0]!r}: {rule}; correct the names")
        return replace(self, names=tuple(names), values=self.align(names, absent=strangers))

    def strangers(self, names: Iterable[str]) -> list[str]:
        """The labelled files that are not among these images."""
        known = {stem(name) for name in names}
        return [name for name in self.names if stem(name) not in known]

    def _refuse_ambiguity(self, places: Int64[np.ndarray, " n"]) -> None:
        """Raise if one label fits several images, or several labels one image."""
        used, counts = np.unique(places[places >= 0], return_counts=True)
        unclear = (places == _SEVERAL) | np.isin(places, used[counts > 1])
        if unclear.any():
            name = self.names[np.flatnonzero(unclear)[0]]
            raise DataError(f"labels name {name!r}, which fits several images or rows; name images by relative path")

    def write_csv(self, path: str | Path) -> None:
        """Write the table atomically, in a form that `read` reads back.

        Raises:
            DataError: the file cannot be written.
        """
        rows = [["file", *self.columns]]
        rows += [[name, *self.cells(row)] for name, row in zip(self.names, self.values.tolist(), strict=True)]
        try:
            with written_beside(Path(path)) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(rows)
        except TrainingError as error:
            raise DataError(f"labels {path}: cannot be written ({error.__cause__}); choose another folder") from None

    def cells(self, row: Sequence[float]) -> tuple[str, ...]:
        """One row of values as the cells of a CSV, "" if unknown."""
        return tuple(map(self._format, self.columns, row))

    def _format(self, column: str, value: float) -> str:
        if math.isnan(value):
            return ""
        if self.kinds[column] == "class":
            return self.classes[column][int(value)]
        return str(int(value)) if value.is_integer() else repr(value)


class _Column(NamedTuple):
    values: Float64[np.ndarray, " n"]
    kind: str
    classes: tuple[str, ...] = ()


def _unreadable(path: str | Path, error: Exception) -> DataError:
    return DataError(f"labels {path}: cannot be read as text ({error}); give a CSV in UTF-8")


def _split_csv(text: str, path: str | Path) -> tuple[list[str], list[list[str]]]:
    """Names of the columns except that of the files, and the rows with the file first."""
    separator = max(",;\t", key=text.partition("\n")[0].count)
    lines = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
    try:
        table = [[sys.intern(cell.strip()) for cell in line] for line in lines if line]
    except csv.Error as error:
        raise DataError(f"labels {path}: is not a CSV ({error} near line {lines.line_num}); correct it") from None
    if not table:
        return [], []
    lowered = [name.lower() for name in table[0]]
    place = next((lowered.index(name) for name in _FILE_COLUMNS if name in lowered), 0)
    _check_lengths(table, len(lowered), path, "the first line")
    (_, *columns), *rows = [[row[place], *row[:place], *row[place + 1 :]] for row in table]
    _refuse_repeats(columns, "have the column", "rename one")
    return columns, rows


def _split_celeba(text: str, path: str | Path) -> tuple[list[str], list[list[str]]]:
    table = [[sys.intern(cell) for cell in line.split()] for line in text.splitlines() if line.strip()]
    count, columns, rows = int(table[0][0]), table[1] if len(table) > 1 else [], table[2:]
    if len(rows) != count:
        raise DataError(f"labels {path}: the first line says {count} rows, there are {len(rows)}; get the whole file")
    _check_lengths(rows, len(columns) + 1, path, "the second line")
    _refuse_repeats(columns, "have the column", "rename one")
    return columns, rows


def _check_lengths(rows: list[list[str]], length: int, path: str | Path, where: str) -> None:
    for row in rows:
        if len(row) != length:
            rule = f"{where} requires {length}"
            raise DataError(f"labels {path}: the row of {row[0]!r} has {len(row)} values, {rule}; correct it")


def _parse(name: str, cells: list[str], path: str | Path) -> _Column | None:
    """Infer the kind of a column from its distinct values; None if it has too many words."""
    distinct = sorted(set(cells))
    known = [cell for cell in distinct if cell.lower() not in _UNKNOWN]
    numbers = {cell: _number(cell) for cell in known}
    if None not in numbers.values():
        found = set(numbers.values())
        kind = "binary" if found and (found <= {0.0, 1.0} or found <= {-1.0, 1.0}) else "number"
        codes = {cell: float(value == 1) if kind == "binary" else value for cell, value in numbers.items()}
        classes = ()
    else:
        kind, classes = "class", tuple(known)
        codes = {cell: float(code) for code, cell in enumerate(known)}
        word = next(cell for cell in known if numbers[cell] is None)
        if len(known) > MOST_CLASSES:
            rule = f"must hold numbers alone, or at most {MOST_CLASSES} different words"
            _warn_once(f"labels {path}: column {name!r} {rule}, it holds {word!r}; it is left out")
            return None
        if any(value is not None and cell.lower() not in _WORDS for cell, value in numbers.items()):
            _warn_once(f"labels {path}: column {name!r} holds {word!r} among numbers; all are read as names of classes")
    values = np.fromiter((codes.get(cell, math.nan) for cell in cells), np.float64, len(cells))
    return _Column(values, kind, classes)


@cache
def _warn_once(text: str) -> None:
    """Log a warning once, since one command may read a table several times."""
    _log.warning("%s", text)


def _number(cell: str) -> float | None:
    if cell.lower() in _WORDS:
        return _WORDS[cell.lower()]
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _places(names: Iterable[str], key: Callable[[str], str]) -> dict[str, int]:
    """The position of each key, or _SEVERAL."""
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        short = key(name)
        places[short] = _SEVERAL if short in places else place
    return places


def _whole(name: str) -> str:
    return name.removeprefix("./")


def stem(name: str) -> str:
    """The file name without its suffix, by which labels find their images at the least."""
    return posixpath.splitext(posixpath.basename(name))[0]


def _refuse_repeats(names: Sequence[str], what: str, remedy: str) -> None:
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))
        raise DataError(f"labels {what} {twice!r} twice; {remedy}")
