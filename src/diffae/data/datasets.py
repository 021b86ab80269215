"""The paper's data sets, in the layouts in which their makers or the published repository distribute them."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import md5
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Real

from diffae.data.build import Building, prepare_pack
from diffae.data.images import Crop, ImageSpec
from diffae.data.labels import LabelTable, stem
from diffae.data.pack import Pack, is_pack
from diffae.data.sources import ListedSource, Source, open_source
from diffae.data.sources.base import Labelled
from diffae.data.sources.files import FolderSource, open_zip, unpack
from diffae.data.sources.lmdb_files import NumberedLmdb, is_lmdb, open_lmdb
from diffae.errors import DataError

_FFHQ_FACTS = "ffhq-dataset-v2.json"
_FFHQ_FILE = re.compile(rb'\{[^{}]*"file_path":\s*"([^"]+)"[^{}]*"file_md5":\s*"([0-9a-f]{32})"[^{}]*\}')


@dataclass(frozen=True)
class DataSet:
    """A data set as it is distributed."""

    count: int
    """Number of images."""
    places: tuple[str, ...]
    """Where the images may be below the given folder, best first; the folder itself is the last resort."""
    name: Callable[[int], str] | None = None
    """Name of each image by its number from 0, if they are numbered."""
    within: str = ""
    """The folder of the images inside larger archives."""
    labels: tuple[tuple[str, ...], ...] = ()
    """Label files, each as a list of places where it may be."""
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
    building: Building | None = None,
) -> Pack:
    """Return the pack of one of the paper's data sets, with the labels that come with it.

    The number of images is checked before anything is decoded if it is known by then, and so are the names of numbered
    images. Every image must decode, and those of FFHQ must match the MD5 sums of ffhq-dataset-v2.json if that file is
    there.

    Args:
        name: one of `DATA_SETS`.
        source: the folder in which it was unpacked, or the folder, archive or LMDB of its images, or anything else that
            `open_source` takes.
        out: the pack's folder; see `prepare_pack` for how it is resumed.
        size, channels: see ImageSpec; the crop is the data set's.
        building: by default strict. If not strict, missing and damaged images are left out.
    Raises:
        DataError: nothing there, images missing or damaged, damaged labels, or another pack at `out`.
    """
    data, source, building = DATA_SETS[name], Path(source), building or Building(strict=True)
    place = next((source / place for place in data.places if (source / place).exists()), source)
    images = _open(data, place, size)
    if building.strict:
        _check_count(name, data, images, place)
        building = replace(building, at_least=data.count)
    table = _labels(data, images, source, place)
    if table is not None:
        images = Labelled(images, table)
    spec, made_of = ImageSpec(channels, size, data.crop), f"{name}: {place.name}"
    return prepare_pack(images, out, spec, source=made_of, about=[name], building=building)


def _open(data: DataSet, place: Path, size: int) -> Source:
    images = open_lmdb(place, size) if is_lmdb(place) else open_source(place)
    if isinstance(images, NumberedLmdb):
        images.name = data.name or images.name
    elif isinstance(images, FolderSource) and (sums := _md5_sums(place)):
        return SummedFolder(place, sums)
    elif data.within and isinstance(images, ListedSource):
        inside = [row for row, name in enumerate(images.names) if data.within in name.split("/")]
        return Selection(images, inside) if inside else images
    return images


def _check_count(name: str, data: DataSet, images: Source, place: Path) -> None:
    if images.count is None:
        return
    missing = ""
    if data.name is not None and isinstance(images, ListedSource):
        there = set(map(stem, images.names))
        lost = next((wanted for i in range(data.count) if stem(wanted := data.name(i)) not in there), None)
        missing = f", the first missing is {lost}" if lost else ""
    if images.count != data.count or missing:
        have = f"holds {images.count:,} images where {name} has {data.count:,}{missing}"
        raise DataError(f"images {place}: {have}; get the rest, or take what there is with --incomplete")


def _labels(data: DataSet, images: Source, source: Path, place: Path) -> LabelTable | None:
    """The label files beside the images as one table; None if there are none."""
    if isinstance(images, NumberedLmdb) and images.prefix == b"None-" and images.count != data.count:
        return None  # its numbers are positions in the sorted list of all files, which shift if some are missing
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
    with open_zip(place) as archive:
        inside = next((item for item in archive.namelist() if posixpath.basename(item) == name), None)
        return LabelTable.parse(unpack(archive, inside, f"labels {inside}:"), place / inside) if inside else None


def _joined(tables: Sequence[LabelTable]) -> LabelTable:
    """Join tables of different columns, with the rows of the first."""
    first = tables[0]
    values = [table.for_images(first.names).values for table in tables]
    columns = tuple(column for table in tables for column in table.columns)
    kinds = {column: kind for table in tables for column, kind in table.kinds.items()}
    return replace(first, columns=columns, values=np.concatenate(values, axis=1), kinds=kinds)


def _md5_sums(place: Path) -> dict[str, bytes]:
    """MD5 sums of FFHQ's images by path below `place`; empty if its makers' JSON file is not there.

    The file has 250 MB, so it is searched piece by piece rather than parsed.
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


class SummedFolder(FolderSource):
    """Files of a folder that must have known MD5 sums."""

    def __init__(self, path: Path, sums: dict[str, bytes]) -> None:
        super().__init__(path, 3)
        self._sums = sums

    def read(self, index: int, spec: ImageSpec) -> Real[np.ndarray, "h w c"]:
        name = self.names[index]
        pixels = super().read(index, spec)
        wanted = self._sums.get(name)
        if wanted and md5((self.path / name).read_bytes(), usedforsecurity=False).digest() != wanted:
            raise DataError(f"image {name}: has another MD5 sum than {_FFHQ_FACTS} states; get it again")
        return pixels


class Selection(ListedSource):
    """Some of the images of a source whose fingerprint has one entry per image."""

    def __init__(self, images: ListedSource, rows: Sequence[int]) -> None:
        super().__init__(images.path, [images.names[row] for row in rows])
        self._images, self._rows = images, rows

    def read(self, index: int, spec: ImageSpec) -> Real[np.ndarray, "h w c"]:
        return self._images.read(self._rows[index], spec)

    def fingerprint(self) -> Iterator[tuple]:
        """The entries of the images selected."""
        rows = set(self._rows)
        return (entry for row, entry in enumerate(self._images.fingerprint()) if row in rows)
