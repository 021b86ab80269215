"""Images in WebDataset shards: tar archives in which the files of one sample share a name and stand together."""

from __future__ import annotations

import json
import math
import re
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import groupby, islice, product
from pathlib import Path
from typing import Any, Self

from diffae.data.formats.base import MAX_FILE_BYTES
from diffae.data.images import SUFFIXES
from diffae.data.sources.base import Item, LabelCells, Source, cell_of, encoded, failed, stamp
from diffae.data.sources.files import images_below
from diffae.errors import DataError, reading

_ARCHIVES = (".tar", ".tar.gz", ".tgz")
_RANGE = re.compile(r"\{([0-9]{1,9})\.\.([0-9]{1,9})\}")
_MOST_SHARDS = 100_000
_MOST_HEADER_BYTES, _MOST_LABEL_BYTES = 2**20, 2**22
_HEADERS = b"xgXLK"  # types of members that hold names and other facts of the next, which tarfile reads at once
_CLASS, _FACTS = "cls", "json"  # suffixes of the files that hold labels
_LOOKED_AT = 100  # samples, whose labels are the columns


def find(path: Path, channels: int) -> TarSource | None:
    """The samples of a .tar (.tar.gz, .tgz), of a folder of them, or of a pattern like shard-{000..012}.tar."""
    shards = find_shards(path)
    return TarSource(path, shards) if shards else None


def find_shards(path: Path) -> list[Path]:
    """The archives that a path names, in order; none if it names something else, such as a folder with images.

    Raises:
        DataError: an archive named by a pattern is missing.
    """
    if path.is_dir():
        files = sorted(item for item in path.iterdir() if not item.name.startswith("."))
        shards = [item for item in files if item.name.lower().endswith(_ARCHIVES) and item.is_file()]
        return [] if shards and any(images_below(path)) else shards
    if not path.name.lower().endswith(_ARCHIVES):
        return []
    shards = list(_expand(str(path)))
    for shard in shards:
        if not shard.is_file():
            raise DataError(f"images {path}: there is no {shard}; check the path")
    return shards


def _expand(pattern: str) -> Iterator[Path]:
    """Replace each {first..last} by the numbers in between, padded to the width of the first.

    Raises:
        DataError: too many archives.
    """
    texts, firsts, lasts = (_RANGE.split(pattern)[part::3] for part in range(3))
    ranges = [range(int(first), int(last) + 1) for first, last in zip(firsts, lasts, strict=True)]
    if (count := math.prod(map(len, ranges))) > _MOST_SHARDS:
        raise DataError(f"images {pattern}: names {count} archives, the limit is {_MOST_SHARDS}; shorten the range")
    for numbers in product(*ranges):
        padded = (str(number).zfill(len(first)) for number, first in zip(numbers, firsts, strict=True))
        yield Path("".join(part for pair in zip(texts, [*padded, ""], strict=True) for part in pair))


class TarSource(Source):
    """The samples of shards, in order.

    The image of a sample is its first file with the suffix of an image. Its labels are the content of its .cls file
    (column "class") and the numbers in its .json file; the columns are those of the first 100 samples. A damaged
    archive yields the samples before the damage and then an item that cannot be read.

    The webdataset library is not used because it ends silently where an archive is damaged.

    Raises:
        DataError: damage before the first image, or no images.
    """

    def __init__(self, path: Path, shards: Sequence[Path]) -> None:
        self.path, self.shards = path, shards
        first = [
            content if isinstance(content, DataError) else _labels(content, path)
            for _, content in islice(self._samples(), _LOOKED_AT)
        ]
        labels = [content for content in first if not isinstance(content, DataError)]
        if not labels:
            nothing = DataError(f"images {path}: no images found, at least one file must end in {' '.join(SUFFIXES)}")
            raise next((error for error in first if isinstance(error, DataError)), nothing)
        self._cells = LabelCells(path, labels)
        self.columns = self._cells.columns

    def items(self, start: int = 0) -> Iterator[Item]:
        for name, content in islice(self._samples(), start, None):
            try:
                if isinstance(content, DataError):
                    raise content
                yield encoded(content["image"], name, self._cells.of(name, _labels(content, self.path)))
            except DataError as error:
                yield failed(name, str(error))

    def fingerprint(self) -> Iterator[tuple]:
        """Name, size and modification time of each shard."""
        return ((shard.name, *stamp(shard)) for shard in self.shards)

    def _samples(self) -> Iterator[tuple[str, dict[str, bytes] | DataError]]:
        """The name of each image and the files of its sample ("image", "cls", "json"), or a shard and its damage."""
        for shard in self.shards:
            before = f"{shard.name}/" if len(self.shards) > 1 else ""
            for _, group in groupby(_members(shard), lambda member: _sample_of(*member)):
                name, files = "", {}
                for member, data in group:
                    suffix = member.rpartition("/")[2].partition(".")[2]
                    if isinstance(data, DataError):
                        yield shard.name, data
                    elif suffix in (_CLASS, _FACTS):
                        files[suffix] = data
                    elif "image" not in files:
                        name, files["image"] = member, data
                if "image" in files:
                    yield before + name, files


def _sample_of(member: str, data: bytes | DataError) -> tuple[str, str] | None:
    """The folder and the stem that the files of a sample share; None for damage."""
    folder, _, base = member.rpartition("/")
    return None if isinstance(data, DataError) else (folder, base.partition(".")[0])


class _Header(tarfile.TarInfo):
    """A header that only zeros may end the archive with; by default any damaged header ends it silently.

    Headers with names and facts are limited in size, because tarfile reads each at once.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """See TarInfo."""
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise
            raise tarfile.ReadError(f"{error}") from None
        if header.size < 0 or (header.type in _HEADERS and header.size > _MOST_HEADER_BYTES):
            raise tarfile.ReadError(f"a header of {header.size} bytes, the limit is {_MOST_HEADER_BYTES}")
        return header


def _members(shard: Path) -> Iterator[tuple[str, bytes | DataError]]:
    """Name and content of the images and labels in an archive, without hidden ones; at the end any damage."""
    try:
        with _reading(shard), tarfile.open(shard, "r:*", tarinfo=_Header) as archive:
            before = -1
            while (member := archive.next()) is not None:
                if not before < (before := archive.offset):
                    raise tarfile.ReadError("a member of negative size")
                archive.members = []  # type: ignore[attr-defined]  # or the archive remembers every file
                base = member.name.rpartition("/")[2]
                wanted = base.endswith((f".{_CLASS}", f".{_FACTS}")) or Path(base).suffix.lower() in SUFFIXES
                if member.isfile() and wanted and not base.startswith("."):
                    yield member.name, _content(archive, member)
            while archive.fileobj and archive.fileobj.read(2**20):  # up to the checksum of a compressed archive
                pass
    except DataError as error:
        yield shard.name, error


def _reading(shard: Path) -> AbstractContextManager[None]:
    return reading(f"images {shard}:", "get it again", damage="is not a complete tar archive")


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    is_label = member.name.endswith((f".{_CLASS}", f".{_FACTS}"))
    limit = _MOST_LABEL_BYTES if is_label else MAX_FILE_BYTES
    if member.size > limit:
        raise tarfile.ReadError(f"{member.name} has {member.size} bytes, the limit is {limit}")
    if member.issparse():  # a few bytes may stand for any number of zeros
        raise tarfile.ReadError(f"{member.name} is sparse")
    file = archive.extractfile(member)
    data = file.read() if file else b""
    if len(data) != member.size:
        raise tarfile.ReadError(f"it ends inside {member.name}")
    return data


def _labels(files: dict[str, bytes], path: Path) -> dict[str, str]:
    """The class, and the numbers of the JSON, as cells."""
    with reading(f"images {path}: labels of a sample", "make the shards again", damage="are damaged"):
        labels = {"class": cell_of(files[_CLASS].decode())} if _CLASS in files else {}
        stated: Any = json.loads(files[_FACTS]) if _FACTS in files else {}
    named = stated if isinstance(stated, dict) else {}  # lists have no names
    return labels | {key: cell_of(value) for key, value in named.items() if isinstance(value, (int, float))}
