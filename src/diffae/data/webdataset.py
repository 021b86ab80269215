"""Images in WebDataset shards: tar archives in which the files of one sample share a name and stand together."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from diffae.data.streams import Item, encoded
from diffae.errors import DataError
from diffae.images import SUFFIXES

_ARCHIVES = (".tar", ".tar.gz", ".tgz")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_CLASS, _FACTS = "cls", "json"  # labels among the files of a sample
_MOST_BYTES = 2**30  # of one file


def find_shards(path: Path) -> list[Path]:
    """The archives that a path means, in order; none where it means something else.

    A .tar (or .tar.gz, .tgz), a folder with such archives and no images, or a pattern: shard-{000..012}.tar.

    Raises:
        DataError: one that a pattern names is not there.
    """
    if path.is_dir():
        files = sorted(item for item in path.iterdir() if not item.name.startswith("."))
        images = any(item.suffix.lower() in SUFFIXES for item in files)
        return [] if images else [item for item in files if item.name.lower().endswith(_ARCHIVES)]
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
    (column "class") and the numbers in its .json file; which there are is seen from the first sample.

    Raises:
        DataError: a damaged archive, or one without images.
    """

    count: int | None = None

    def __init__(self, path: Path, shards: Sequence[Path]) -> None:
        self.path, self.shards = path, shards
        self.columns: tuple[str, ...] = ()
        first = next(self._samples(), None)
        if first is None:
            raise DataError(f"images {path}: no images found, at least one file must end in {' '.join(SUFFIXES)}")
        self.columns = tuple(_facts(first[1], path))

    def items(self, start: int = 0) -> Iterator[Item]:
        """See Stream."""
        for number, (name, files) in enumerate(self._samples()):
            if number >= start:
                facts = _facts(files, self.path) if self.columns else {}
                labels = tuple(facts.get(column, "") for column in self.columns)
                yield encoded(files["image"], name, labels)

    def fingerprint(self) -> Iterator[tuple]:
        """Name, size and modification time in nanoseconds of each shard."""
        for shard in self.shards:
            facts = shard.stat()
            yield shard.name, facts.st_size, facts.st_mtime_ns

    def _samples(self) -> Iterator[tuple[str, dict[str, bytes]]]:
        """Name of the image, and the content of the files that matter."""
        for shard in self.shards:
            before = f"{shard.name}/" if len(self.shards) > 1 else ""
            key, name, files = None, "", {}
            for member, data in _members(shard):
                folder, _, base = member.rpartition("/")
                stem, _, suffix = base.partition(".")
                if (folder, stem) != key:
                    if "image" in files:
                        yield name, files
                    key, files = (folder, stem), {}
                if suffix in (_CLASS, _FACTS):
                    files[suffix] = data
                elif "image" not in files:
                    name, files["image"] = before + member, data
            if "image" in files:
                yield name, files


def _members(shard: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of the images and labels in an archive, hidden ones passed over."""
    try:
        with tarfile.open(shard, "r:*") as archive:
            while (member := archive.next()) is not None:
                vars(archive)["members"].clear()  # else the archive remembers every file
                base = member.name.rpartition("/")[2]
                wanted = base.endswith((f".{_CLASS}", f".{_FACTS}")) or Path(base).suffix.lower() in SUFFIXES
                if member.isfile() and wanted and not base.startswith("."):
                    yield member.name, _content(archive, member)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise DataError(f"images {shard}: is not a whole tar archive ({error}); get it again") from None


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
    numbers = {key: value for key, value in stated.items() if isinstance(value, (int, float))}
    return facts | {
        key: str(float(value) if isinstance(value, float) else int(value)) for key, value in numbers.items()
    }
