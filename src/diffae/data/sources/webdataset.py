"""Images in WebDataset shards: tar archives in which the files of one sample share a name and stand together."""

from __future__ import annotations

import json
import logging
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np

from diffae.data.images import SUFFIXES, ImageSpec
from diffae.data.sources.files import images_below
from diffae.data.sources.items import Item, cell_of, columns_of, encoded
from diffae.errors import DataError

_log = logging.getLogger(__name__)

_ARCHIVES = (".tar", ".tar.gz", ".tgz")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_CLASS, _FACTS = "cls", "json"  # labels among the files of a sample
_MOST_BYTES = 2**30  # of one file
_LOOKED_AT = 100  # samples, whose labels are the columns


def find_shards(path: Path) -> list[Path]:
    """The archives that a path means, in order; none where it means something else.

    A .tar (or .tar.gz, .tgz), a folder with such archives and no images in it or below, or a pattern:
    shard-{000..012}.tar.

    Raises:
        DataError: one that a pattern names is not there.
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
    """Paths with each {first..last} replaced by the numbers in between, as wide as the first."""
    found = _RANGE.search(pattern)
    if not found:
        yield Path(pattern)
        return
    first, last = found.groups()
    for number in range(int(first), int(last) + 1):
        yield from _expand(pattern[: found.start()] + str(number).zfill(len(first)) + pattern[found.end() :])


class TarStream:
    """Samples of shards, one after another.

    The image of a sample is its first file with the suffix of an image. Its labels are the content of its .cls file
    (column "class") and the numbers in its .json file; which there are is seen from the first 100 samples. A damaged
    archive gives what comes before the damage, and then an item that cannot be read.

    Raises:
        DataError: damage before the first image, or no images.
    """

    count: int | None = None

    def __init__(self, path: Path, shards: Sequence[Path]) -> None:
        self.path, self.shards = path, shards
        keys: dict[str, None] = {}
        empty = DataError(f"images {path}: no images found, at least one file must end in {' '.join(SUFFIXES)}")
        reason: DataError | None = empty
        for _, files in islice(self._samples(), _LOOKED_AT):
            if not isinstance(files, DataError):
                keys |= dict.fromkeys(_facts(files, path))
                reason = None
            elif reason is empty:
                reason = files
        if reason is not None:
            raise reason
        self._columns = columns_of(keys)
        self.columns: tuple[str, ...] = tuple(self._columns.values())
        self._lost = False
        """Whether it was said that later samples have other labels."""

    def items(self, start: int = 0) -> Iterator[Item]:
        """See Stream."""
        for number, (name, files) in enumerate(self._samples()):
            if number < start:
                continue
            try:
                yield self._item(name, files)
            except DataError as error:
                yield Item(name, partial(_refuse, str(error)))

    def _item(self, name: str, files: dict[str, bytes] | DataError) -> Item:
        if isinstance(files, DataError):
            raise files
        facts = _facts(files, self.path)
        self._tell_lost(name, facts)
        return encoded(files["image"], name, tuple(facts.get(key, "") for key in self._columns))

    def _tell_lost(self, name: str, facts: dict[str, str]) -> None:
        others = [key for key in facts if key not in self._columns]
        if others and not self._lost:
            what = f"label {others[0]!r}, which none of the first {_LOOKED_AT} samples has"
            _log.warning("images %s: %s has the %s; such labels are left out", self.path, name, what)
            self._lost = True

    def fingerprint(self) -> Iterator[tuple]:
        """Name, size and modification time in nanoseconds of each shard."""
        for shard in self.shards:
            facts = shard.stat()
            yield shard.name, facts.st_size, facts.st_mtime_ns

    def _samples(self) -> Iterator[tuple[str, dict[str, bytes] | DataError]]:
        """Name of the image, and the content of the files that matter; a damaged shard's own name, and its damage."""
        for shard in self.shards:
            before = f"{shard.name}/" if len(self.shards) > 1 else ""
            try:
                for member, files in _grouped(_members(shard)):
                    yield before + member, files
            except DataError as error:
                yield shard.name, error


def _grouped(members: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The samples of one archive: the image's name, and the contents by "image", "cls" and "json"."""
    key, name, files = None, "", {}
    damage = None
    try:
        for member, data in members:
            folder, _, base = member.rpartition("/")
            stem, _, suffix = base.partition(".")
            if (folder, stem) != key:
                if "image" in files:
                    yield name, files
                key, files = (folder, stem), {}
            if suffix in (_CLASS, _FACTS):
                files[suffix] = data
            elif "image" not in files:
                name, files["image"] = member, data
    except DataError as error:
        damage = error
    if "image" in files:
        yield name, files
    if damage:
        raise damage


def _refuse(reason: str, _: ImageSpec) -> np.ndarray:
    raise DataError(reason)


class _Header(tarfile.TarInfo):
    """A header of which only zeros may end the archive: others would end it silently where it is damaged or cut."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """See TarInfo."""
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise
            raise tarfile.ReadError(f"{error}") from None


def _members(shard: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of the images and labels in an archive, hidden ones passed over."""
    try:
        with tarfile.open(shard, "r:*", tarinfo=_Header) as archive:
            while (member := archive.next()) is not None:
                vars(archive)["members"].clear()  # else the archive remembers every file
                base = member.name.rpartition("/")[2]
                wanted = base.endswith((f".{_CLASS}", f".{_FACTS}")) or Path(base).suffix.lower() in SUFFIXES
                if member.isfile() and wanted and not base.startswith("."):
                    yield member.name, _content(archive, member)
            while archive.fileobj and archive.fileobj.read(2**20):  # to the checksum of a packed archive
                pass
    except (tarfile.TarError, zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"images {shard}: is not a whole tar archive ({reason}); get it again") from None


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > _MOST_BYTES:
        raise tarfile.ReadError(f"{member.name} has {member.size} bytes, the limit is {_MOST_BYTES}")
    file = archive.extractfile(member)
    data = file.read() if file else b""
    if len(data) != member.size:
        raise tarfile.ReadError(f"it ends inside {member.name}")
    return data


def _facts(files: dict[str, bytes], path: Path) -> dict[str, str]:
    """Labels as cells: the class, and the numbers of the JSON."""
    try:
        facts = {"class": files[_CLASS].decode().strip()} if _CLASS in files else {}
        stated: Any = json.loads(files[_FACTS]) if _FACTS in files else {}
    except ValueError as error:
        raise DataError(f"images {path}: labels of a sample are damaged ({error}); make the shards again") from None
    named = stated if isinstance(stated, dict) else {}  # lists have no names
    return facts | {key: cell_of(value) for key, value in named.items() if isinstance(value, (int, float))}
