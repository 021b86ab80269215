"""Images in WebDataset shards: tar archives in which the files of one sample share a name and stand together."""

from __future__ import annotations

import json
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Self

from diffae.data.formats.base import MAX_FILE_BYTES
from diffae.data.images import SUFFIXES
from diffae.data.sources.base import Item, LabelCells, Source, cell_of, encoded, failed, stamp
from diffae.data.sources.files import images_below
from diffae.errors import DataError

_ARCHIVES = (".tar", ".tar.gz", ".tgz")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
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
        shards = [item for item in files if item.name.lower().endswith(_ARCHIVES)]
        return [] if shards and any(images_below(path)) else shards
    if not path.name.lower().endswith(_ARCHIVES):
        return []
    shards = list(_expand(str(path)))
    for shard in shards:
        if not shard.is_file():
            raise DataError(f"images {path}: there is no {shard}; check the path")
    return shards


def _expand(pattern: str) -> Iterator[Path]:
    """Replace each {first..last} by the numbers in between, padded to the width of the first."""
    found = _RANGE.search(pattern)
    if not found:
        yield Path(pattern)
        return
    first, last = found.groups()
    for number in range(int(first), int(last) + 1):
        yield from _expand(pattern[: found.start()] + str(number).zfill(len(first)) + pattern[found.end() :])


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
    """A header that only zeros may end the archive with; by default any damaged header ends it silently."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """See TarInfo."""
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise
            raise tarfile.ReadError(f"{error}") from None


def _members(shard: Path) -> Iterator[tuple[str, bytes | DataError]]:
    """Name and content of the images and labels in an archive, without hidden ones; at the end any damage."""
    try:
        with tarfile.open(shard, "r:*", tarinfo=_Header) as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # or the archive remembers every file
                base = member.name.rpartition("/")[2]
                wanted = base.endswith((f".{_CLASS}", f".{_FACTS}")) or Path(base).suffix.lower() in SUFFIXES
                if member.isfile() and wanted and not base.startswith("."):
                    yield member.name, _content(archive, member)
            while archive.fileobj and archive.fileobj.read(2**20):  # up to the checksum of a compressed archive
                pass
    except (tarfile.TarError, zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
        reason = " ".join(str(error).split())
        yield shard.name, DataError(f"images {shard}: is not a complete tar archive ({reason}); get it again")


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > MAX_FILE_BYTES:
        raise tarfile.ReadError(f"{member.name} has {member.size} bytes, the limit is {MAX_FILE_BYTES}")
    file = archive.extractfile(member)
    data = file.read() if file else b""
    if len(data) != member.size:
        raise tarfile.ReadError(f"it ends inside {member.name}")
    return data


def _labels(files: dict[str, bytes], path: Path) -> dict[str, str]:
    """The class, and the numbers of the JSON, as cells."""
    try:
        labels = {"class": files[_CLASS].decode().strip()} if _CLASS in files else {}
        stated: Any = json.loads(files[_FACTS]) if _FACTS in files else {}
    except ValueError as error:
        raise DataError(f"images {path}: labels of a sample are damaged ({error}); make the shards again") from None
    named = stated if isinstance(stated, dict) else {}  # lists have no names
    return labels | {key: cell_of(value) for key, value in named.items() if isinstance(value, (int, float))}
