"""Images in LMDB files: any that hold encoded images, LSUN's, and those of the published repository."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from diffae.data.sources.base import Item, Source, encoded, failed, stamp
from diffae.data.sources.lmdb_pages import LmdbFile
from diffae.errors import DataError, reading

_NUMBERED = re.compile(rb"(None|\d+)-(\d+)")  # resolution ("None": the original's) and number, with leading zeros
_LENGTH = b"length"
_NOT_IMAGES = (_LENGTH, b"num-samples", b"__len__", b"__keys__")


def find(path: Path, channels: int) -> LmdbSource | None:
    """The images of an LMDB: a folder with data.mdb, or a file with the suffix .lmdb or .mdb."""
    return open_lmdb(path) if is_lmdb(path) else None


def is_lmdb(path: Path) -> bool:
    """Whether a folder holds an LMDB, or a file has the suffix of one."""
    return (path / "data.mdb").is_file() or (path.suffix.lower() in (".lmdb", ".mdb") and path.is_file())


def open_lmdb(path: Path, size: int | None = None) -> LmdbSource:
    """Open an LMDB whose values are image files, with any keys.

    The published repository uses keys `RESOLUTION-NUMBER`, as in "256-00000", and stores the count under "length". If
    there are several resolutions, the smallest that has `size` pixels is read, or else the largest.

    Raises:
        DataError: not an LMDB, damaged, or without entries.
    """
    with _reading(path) as file:
        length = file.get(_LENGTH)
        count = file.entries - sum(file.get(key) is not None for key in _NOT_IMAGES)
        found = _resolutions(file) if length is not None else {}
    if count < 1:
        raise DataError(f"images {path}: the LMDB holds no images; check the path")
    if not found:
        return LmdbSource(path, count)
    if length is None or not length.isdigit() or len(length) > 20:
        raise DataError(f"images {path}: its length is {length!r:.50}, it must be a number; make the LMDB again")
    if int(length) > count + len(_NOT_IMAGES):
        raise DataError(f"images {path}: states {int(length)} images, it has {count}; get the whole file")
    enough = [side for side in found if side >= (size or 0)]
    resolution = min(enough) if size and enough else max(found)
    return NumberedLmdb(path, int(length), *found[resolution])


class LmdbSource(Source):
    """Entries of an LMDB in the order of their keys, which are the names; in hexadecimal if not printable."""

    def __init__(self, path: Path, count: int) -> None:
        self.path, self.count = path, count

    def items(self, start: int = 0) -> Iterator[Item]:
        with _reading(self.path) as file:
            images = (entry for entry in file.walk() if entry.key not in _NOT_IMAGES)
            for key, value in islice(images, start, None):
                yield encoded(value(), _printable(key))

    def fingerprint(self) -> Iterator[tuple]:
        """Name, size and modification time of the file."""
        yield self.path.name, *stamp(_file(self.path))


class NumberedLmdb(LmdbSource):
    """An LMDB of the published repository.

    Args:
        path: folder or file.
        count: number of images that it states.
        prefix: what precedes the number in a key, for instance b"256-".
        digits: of the number.
    """

    def __init__(self, path: Path, count: int, prefix: bytes, digits: int) -> None:
        super().__init__(path, count)
        self.prefix, self.digits = prefix, digits
        self.name: Callable[[int], str] = lambda number: self._key(number).decode()
        """The name of an image by its number; its key unless the data set is known."""

    def _key(self, number: int) -> bytes:
        return self.prefix + str(number).zfill(self.digits).encode()

    def items(self, start: int = 0) -> Iterator[Item]:
        assert self.count is not None
        with _reading(self.path) as file:
            for number in range(start, self.count):
                key, name = self._key(number), self.name(number)
                data = file.get(key)
                missing = f"image {name}: is missing from the LMDB (key {key.decode()}); get the whole file"
                yield failed(name, missing) if data is None else encoded(data, name)


def _resolutions(file: LmdbFile) -> dict[int, tuple[bytes, int]]:
    """Prefix and digits of the numbered keys by resolution, 0 for the original; empty if there are other keys."""
    found: dict[int, tuple[bytes, int]] = {}
    entry = next(file.walk(), None)
    while entry is not None:
        after = entry.key + b"\0"
        if entry.key != _LENGTH:
            if not (parts := _NUMBERED.fullmatch(entry.key)):
                return {}
            resolution, number = parts.groups()
            found[int(resolution) if resolution != b"None" else 0] = (resolution + b"-", len(number))
            after = resolution + b"."  # "." follows "-": the first key after this resolution
        entry = next(file.walk(after), None)
    return found


def _printable(key: bytes) -> str:
    text = key.decode("ascii", "replace")
    return text if text.isascii() and text.isprintable() else key.hex()


def _file(path: Path) -> Path:
    return path / "data.mdb" if path.is_dir() else path


@contextmanager
def _reading(path: Path) -> Iterator[LmdbFile]:
    with reading(f"images {path}:", "get it again", damage="is not a complete LMDB"), LmdbFile(_file(path)) as file:
        yield file
