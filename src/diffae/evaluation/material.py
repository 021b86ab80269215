"""The images of an evaluation: those a model was trained on and unseen ones, with their binary labels."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor

from diffae.data.image_set import parts_of
from diffae.data.images import to_tensor
from diffae.data.labels import LabelTable
from diffae.data.pack import Pack
from diffae.errors import DataError
from diffae.training.held_out import held_out
from diffae.training.settings import TrainingConfig
from sketchfaces import BINARY, draw_chunks

_BLOCK = 512  # images read at once

UNSEEN_SEED = 20_220_619
"""Seed of drawn faces that no model was trained on: the shipped model's have seed 0."""

_DRAWN = re.compile(r"sketch_faces\((?P<count>\d+), size=\d+, seed=(?P<seed>\d+)\)")


@dataclass(frozen=True)
class Images:
    """Rows of a pack, with their binary labels."""

    pack: Pack
    rows: Int64[np.ndarray, " n"]
    known: Mapping[str, Float[np.ndarray, " n"]] = field(default_factory=dict)
    """For each binary attribute 1, 0, or NaN (unknown). Tasks read them as `labels`."""
    on_labels: Callable[[], object] | None = None
    """Called when `labels` is read."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> Mapping[str, Float[np.ndarray, " n"]]:
        """For each binary attribute 1, 0, or NaN (unknown)."""
        if self.on_labels:
            self.on_labels()
        return self.known

    def tensor(self, count: int | None = None) -> Float[Tensor, "count c h w"]:
        """The first `count` images (all by default), in [-1, 1]."""
        return to_tensor(self.pack.fetch(self.rows[:count]))

    def at(self, places: np.ndarray | slice) -> Images:
        """A subset, by position."""
        known = {name: values[places] for name, values in self.known.items()}
        return replace(self, rows=self.rows[places], known=known)

    def first(self, count: int) -> Images:
        """The first `count` images, or all if there are fewer."""
        return self.at(slice(count))

    def to_pack(self, path: Path) -> Pack:
        """These images as a pack of their own, made if it is not there yet."""
        if path.exists():
            return Pack.open(path)
        chunks = (self.pack.fetch(rows) for rows in np.split(self.rows, range(_BLOCK, len(self), _BLOCK)))
        return Pack.from_arrays(chunks, path, [self.pack.names[int(row)] for row in self.rows])

    def having(self, attribute: str, value: int) -> Images:
        """The images whose label for an attribute is 1, or 0."""
        return self.at(self.labels[attribute] == value)


def drawn_source(source: str) -> tuple[int, int] | None:
    """Count and seed, if the source in config.json says that a model was trained on drawn faces."""
    found = _DRAWN.fullmatch(source)
    return (int(found["count"]), int(found["seed"])) if found else None


def drawn(folder: Path, size: int, source: tuple[int, int], train: int, test: int) -> tuple[Images, Images]:
    """Training images and unseen ones of a model of drawn faces.

    Args:
        folder: where their packs are kept.
        size: pixels.
        source: count and seed of the faces the model was trained on.
        train, test: how many are needed.
    """
    count, seed = source
    return _drawn(folder, size, min(count, train), seed), _drawn(folder, size, test, UNSEEN_SEED)


def _drawn(folder: Path, size: int, count: int, seed: int) -> Images:
    path = folder / f"drawn-{size}-{count}-{seed}.pack"
    labels = path.with_suffix(".csv")
    if not (path.exists() and labels.is_file()):
        chunks = list(draw_chunks(count, size, seed))
        names = [name for chunk in chunks for name in chunk.names]
        values = np.stack([np.concatenate([chunk.labels[name] for chunk in chunks]) for name in BINARY], axis=1)
        if not path.exists():
            Pack.from_arrays((chunk.images for chunk in chunks), path, names)
        LabelTable(tuple(names), BINARY, values, dict.fromkeys(BINARY, "binary")).write_csv(labels)
    pack = Pack.open(path)
    return Images(pack, np.arange(len(pack)), binary_labels(LabelTable.read(labels).for_images(pack.names)))


def given(
    pack: Pack,
    unseen: Pack | None,
    labels: LabelTable | None,
    training: TrainingConfig,
    trained_on: str | None = None,
) -> tuple[Images, Images]:
    """Training images and unseen ones, each in random order, since files are often sorted by content.

    Args:
        pack: the training images, or all images.
        unseen: the unseen images. If None, they are taken from `pack`: the rows whose label "split" is "test" if there
            is such a column (the training images are then those of "train"), else those that training held out.
        labels: of both.
        training: how the model was trained.
        trained_on: key of the images it was trained on. If they are those of `pack`, no image that training did not
            hold out counts as unseen, whatever its label "split" says.
    Raises:
        DataError: labels that name none of the images, or unseen images that are among the training images.
    """
    table = labels.for_images(pack.names) if labels else None
    parts = parts_of(table) if table else pack.parts
    every = Images(pack, np.arange(len(pack)), binary_labels(table) if table else {})
    if unseen is not None:
        others = binary_labels(labels.for_images(unseen.names)) if labels else {}
        found = _shuffled(every), _shuffled(Images(unseen, np.arange(len(unseen)), others))
        _check_apart(*found)
        return found
    if parts:
        train, test = (_part(parts, name) for name in ("train", "test"))
        if trained_on is not None and trained_on == pack.index["key"]:
            test = np.setdiff1d(test, held_out(pack, training)[0])
            if not len(test):
                what = "label column 'split': all images of 'test' were trained on"
                raise DataError(f"{what}; name images that were not by --unseen, or leave the column out")
    else:
        train, test = held_out(pack, training)
    return _shuffled(every.at(train)), _shuffled(every.at(test))


def divided(pack: Pack, labels: LabelTable | None, most: int) -> tuple[Images, Images]:
    """Images to train on and to hold out, before a training.

    Args:
        pack: all images.
        labels: if they have a column "split", the images of its "train" and "test" are taken.
        most: otherwise one image in ten is held out, chosen by name, but at most so many.
    Raises:
        DataError: labels that name none of the images, or a split without "train" or "test".
    """
    parts = parts_of(labels.for_images(pack.names)) if labels else pack.parts
    if parts:
        rows = tuple(_part(parts, name) for name in ("train", "test"))
    else:
        rows = pack.split(val_fraction=0.999, max_val=min(most, max(len(pack) // 10, 2)))
    return Images(pack, rows[0]), Images(pack, rows[1])


def _shuffled(images: Images) -> Images:
    return images.at(np.random.default_rng(0).permutation(len(images)))


def _check_apart(train: Images, test: Images) -> None:
    """Raise `DataError` if an image is in both, under any name."""
    known = set(_digests(train))
    both = sum(digest in known for digest in _digests(test))
    if both:
        rule = "a test on training images proves nothing; name others by --unseen"
        raise DataError(f"{both:,} of {len(test):,} unseen images are among the images of training: {rule}")


def _digests(images: Images) -> Iterator[bytes]:
    """Hashes of the pixels, in the order of the pack, which is the fastest to read."""
    for rows in np.array_split(np.sort(images.rows), range(_BLOCK, len(images), _BLOCK)):
        for pixels in images.pack.fetch(rows):
            yield hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()


def check_attributes(names: Sequence[str], train: Images, test: Images) -> None:
    """Raise `DataError` unless all names are attributes of both sets, with images that have it and that lack it."""
    known = [name for name in train.known if name in test.known]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.5)
            remedy = (
                f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known) or 'none: give --labels'}"
            )
            raise DataError(f"attribute {name!r} is not among the binary labels; {remedy}")
        for which, images in (("training", train), ("unseen", test)):
            if len({*images.known[name][~np.isnan(images.known[name])]}) < 2:
                raise DataError(f"attribute {name!r} does not vary among {which} images: name another, or label more")


def binary_labels(table: LabelTable) -> dict[str, Float[np.ndarray, " n"]]:
    """The binary columns of a table."""
    return {name: table.column(name) for name in table.columns if table.kinds[name] == "binary"}


def _part(parts: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in parts:
        raise DataError(f"label column 'split' has {', '.join(parts)}: it must have 'train' and 'test'")
    return parts[name]
