"""The paper's data sets, from the layouts in which their makers, or the published repository, distribute them."""

from __future__ import annotations

import posixpath
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import md5
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Real

from diffae.data.build import prepare_pack
from diffae.data.images import Crop, ImageSpec
from diffae.data.labels import LabelTable
from diffae.data.pack import Pack
from diffae.data.sources.files import FolderSource, Source, is_pack
from diffae.data.sources.lmdb_files import NumberedLmdb, is_lmdb, open_lmdb
from diffae.data.sources.streams import Labelled, Stream, count_of, open_images
from diffae.errors import DataError

_FFHQ_FACTS = "ffhq-dataset-v2.json"
_FFHQ_FILE = re.compile(rb'\{[^{}]*"file_path":\s*"([^"]+)"[^{}]*"file_md5":\s*"([0-9a-f]{32})"[^{}]*\}')


@dataclass(frozen=True)
class DataSet:
    """A data set as it is distributed."""

    count: int
    """How many images it has."""
    places: tuple[str, ...]
    """Where the images may lie below the folder given, best first; the folder itself is the last resort."""
    name: Callable[[int], str] | None = None
    """Names of the images, counted from 0, where they are numbered."""
    within: str = ""
    """The folder of the images inside larger archives."""
    labels: tuple[tuple[str, ...], ...] = ()
    """Label files, of which several may be there, each with the places where it may lie."""
    crop: Crop | None = None
    """What is cut out of each image."""


def _anywhere(name: str, *folders: str) -> tuple[str, ...]:
    return (name, *(f"{folder}/{name}" for folder in folders))


DATA_SETS = {
    "ffhq": DataSet(
        70_000,
        ("images1024x1024", "images1024x1024.zip", "thumbnails128x128", "ffhq256.lmdb", "ffhq.lmdb"),
        lambda i: f"{i - i % 1000:05d}/{i:05d}.png",
    ),
    "celeba": DataSet(
        202_599,
        (
            *("img_align_celeba/img_align_celeba", "img_align_celeba", "Img/img_align_celeba"),
            *("img_align_celeba.zip", "Img/img_align_celeba.zip", "celeba.lmdb"),
        ),
        lambda i: f"{i + 1:06d}.jpg",
        labels=(
            _anywhere("list_attr_celeba.txt", "Anno", "celeba_anno") + _anywhere("list_attr_celeba.csv"),
        ),
        crop="celeba",
    ),
    "celebahq": DataSet(
        30_000,
        ("CelebA-HQ-img", "CelebAMask-HQ/CelebA-HQ-img", "CelebAMask-HQ.zip", "celebahq256.lmdb"),
        lambda i: f"{i}.jpg",
        within="CelebA-HQ-img",
        labels=(
            _anywhere("CelebAMask-HQ-attribute-anno.txt", "CelebAMask-HQ", "celeba_anno"),
            _anywhere("CelebAMask-HQ-pose-anno.txt", "CelebAMask-HQ", "celeba_anno"),
        ),
    ),
    "lsun-horse": DataSet(2_000_340, ("horse", "horse_train_lmdb", "horse256.lmdb")),
    "lsun-bedroom": DataSet(3_033_042, ("bedroom_train_lmdb", "bedroom256.lmdb")),
}  # fmt: skip


def prepare(
    name: str,
    source: str | Path,
    out: str | Path,
    *,
    size: int,
    channels: int = 3,
    incomplete: bool = False,
    workers: int | None = None,
    progress: bool = False,
) -> Pack:
    """The pack of one of the paper's data sets, with the labels that come with it.

    Counts are checked before anything is decoded where they are known by then, and the names of numbered images;
    every image must decode, and those of FFHQ must have the MD5 sums of ffhq-dataset-v2.json where that file is there.

    Args:
        name: one of `DATA_SETS`.
        source: the folder it was unpacked in, the folder, archive or LMDB of its images, or anything that
            `open_images` takes.
        out: the pack's folder; see `prepare_pack` for how it is continued.
        size, channels: see ImageSpec.
        incomplete: take what there is where images are missing or damaged.
        workers, progress: see `build_pack`.
    Raises:
        DataError: nothing there, images missing or damaged, labels that are damaged, another pack at `out`.
    """
    data, source = DATA_SETS[name], Path(source)
    place = next((source / place for place in data.places if (source / place).exists()), source)
    images = _open(data, place, size)
    _check_count(name, data, images, place, incomplete)
    table = _labels(data, images, source, place)
    if table is not None:
        images = Labelled(images, table, _stem)
    return prepare_pack(
        images,
        out,
        ImageSpec(channels, size, data.crop),
        source=f"{name}: {place.name}",
        about=[name],
        strict=not incomplete,
        at_least=1 if incomplete else data.count,
        workers=workers,
        progress=progress,
    )


def _open(data: DataSet, place: Path, size: int) -> Source | Stream:
    images = open_lmdb(place, size) if is_lmdb(place) else open_images(place)
    if isinstance(images, NumberedLmdb):
        images.name = data.name or images.name
    elif isinstance(images, FolderSource) and (sums := _md5_sums(place)):
        return Summed(images, sums)
    elif data.within and not isinstance(images, Stream):
        inside = [row for row, name in enumerate(images.names) if data.within in name.split("/")]
        return Selection(images, inside) if inside else images
    return images


def _check_count(name: str, data: DataSet, images: Source | Stream, place: Path, incomplete: bool) -> None:
    count = count_of(images)
    if incomplete or count is None:
        return
    missing = ""
    if data.name is not None and not isinstance(images, Stream):
        there = set(map(_stem, images.names))
        lost = next((wanted for i in range(data.count) if _stem(wanted := data.name(i)) not in there), None)
        missing = f", the first missing is {lost}" if lost else ""
    if count != data.count or missing:
        have = f"holds {count:,} images where {name} has {data.count:,}{missing}"
        raise DataError(f"images {place}: {have}; get the rest, or take what there is with --incomplete")


def _labels(data: DataSet, images: Source | Stream, source: Path, place: Path) -> LabelTable | None:
    """What the label files beside the images say, all in one table; None where there are none."""
    if isinstance(images, NumberedLmdb) and images.prefix == b"None-" and images.count != data.count:
        return None  # its numbers are places in the sorted list of all files: of other files, if some are missing
    tables = []
    folders = list(dict.fromkeys([source, *islice(place.parents, 3)])) if not is_pack(place) else []
    for places in data.labels:
        found = next((folder / item for folder in folders for item in places if (folder / item).is_file()), None)
        table = LabelTable.read(found) if found else _labels_in_zip(place, places[0])
        tables += [table] if table else []
    return _joined(tables) if tables else None


def _labels_in_zip(place: Path, name: str) -> LabelTable | None:
    if place.suffix.lower() != ".zip":
        return None
    with zipfile.ZipFile(place) as archive, tempfile.TemporaryDirectory() as folder:
        inside = next((item for item in archive.namelist() if posixpath.basename(item) == name), None)
        if inside is None:
            return None
        copy = Path(folder) / name
        copy.write_bytes(archive.read(inside))
        return LabelTable.read(copy)


def _joined(tables: Sequence[LabelTable]) -> LabelTable:
    """Tables of different columns as one, with the rows of the first."""
    first, *others = tables
    values = [first.values]
    for table in others:
        rows = dict(zip(table.names, table.values, strict=True))
        unknown = np.full(len(table.columns), np.nan)
        values.append(np.stack([rows.get(name, unknown) for name in first.names]))
    columns = tuple(column for table in tables for column in table.columns)
    kinds = {column: kind for table in tables for column, kind in table.kinds.items()}
    return replace(first, columns=columns, values=np.concatenate(values, axis=1), kinds=kinds)


def _md5_sums(place: Path) -> dict[str, bytes]:
    """MD5 sums of FFHQ's images by path below `place`, from its makers' JSON; none where there is no such file.

    The file has a quarter of a gigabyte, so it is searched piece by piece rather than parsed.
    """
    file = next((path / _FFHQ_FACTS for path in (place, place.parent) if (path / _FFHQ_FACTS).is_file()), None)
    sums: dict[str, bytes] = {}
    if file is None:
        return sums
    with file.open("rb") as text:
        rest = b""
        while piece := text.read(2**20):
            rest += piece
            end = 0
            for found in _FFHQ_FILE.finditer(rest):
                folder, _, name = found[1].decode().partition("/")
                if folder == place.name:
                    sums[name] = bytes.fromhex(found[2].decode())
                end = found.end()
            rest = rest[end:]
    return sums


class Summed:
    """Files of a folder that must have known MD5 sums."""

    def __init__(self, images: FolderSource, sums: dict[str, bytes]) -> None:
        self.path = images.path
        self.names: Sequence[str] = images.names
        self._images, self._sums = images, sums

    def read(self, index: int, spec: ImageSpec) -> Real[np.ndarray, "h w c"]:
        """See Source."""
        name = self.names[index]
        pixels = self._images.read(index, spec)
        wanted = self._sums.get(name)
        if wanted and md5((self._images.path / name).read_bytes(), usedforsecurity=False).digest() != wanted:
            raise DataError(f"image {name}: has another MD5 sum than {_FFHQ_FACTS} states; get it again")
        return pixels

    def fingerprint(self) -> Iterator[tuple]:
        """See Source."""
        return self._images.fingerprint()


class Selection:
    """Some of the images of a source."""

    def __init__(self, images: Source, rows: Sequence[int]) -> None:
        self.path = images.path
        self.names: Sequence[str] = [images.names[row] for row in rows]
        self._images, self._rows = images, rows

    def read(self, index: int, spec: ImageSpec) -> Real[np.ndarray, "h w c"]:
        """See Source."""
        return self._images.read(self._rows[index], spec)

    def fingerprint(self) -> Iterator[tuple]:
        """Those of the images selected, of a source that has one for each image."""
        rows = set(self._rows)
        return (entry for row, entry in enumerate(self._images.fingerprint()) if row in rows)


def _stem(name: str) -> str:
    return posixpath.splitext(posixpath.basename(name))[0]
