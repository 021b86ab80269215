"""Sources of images. Each kind is one module with a function `find(path, channels)`; see `base.Source`."""

from __future__ import annotations

from pathlib import Path

from diffae.data.formats.stacks import STACK_SUFFIXES, is_stack
from diffae.data.image_set import split_labels
from diffae.data.labels import LabelTable
from diffae.data.sources import arrays, files, hub, lmdb_files, remote, stacks, webdataset
from diffae.data.sources.base import Item, Labelled, ListedSource, Source
from diffae.data.sources.objects import KeyedImages, ObjectSource
from diffae.errors import DataError, reading
from diffae.remote import is_remote

__all__ = ["Item", "KeyedImages", "ListedSource", "Source", "divided", "is_there", "open_listed", "open_source"]

KINDS = (hub, remote, lmdb_files, webdataset, stacks, arrays, files)
"""Modules in the order in which they are tried."""


def open_source(source: str | Path | Source | KeyedImages, channels: int = 3) -> Source:
    """Open a path, or an object of the user's own, as a source of images.

    Args:
        source: a folder (with the folders in it), a .zip, a .npy or .npz array, a file of many images (see
            `diffae.data.formats`; an array in an HDF5 file or Zarr store is FILE/ARRAY), a pack, an LMDB, WebDataset
            shards, hf://owner/name, or image files at an address such as s3://bucket/folder. Or else a `Source` or a
            `KeyedImages`.
        channels: if the unnamed pages of a TIFF are as many as this, they are the channels of one image.
    Raises:
        DataError: nothing there, of an unknown kind, or no images in it.
        ConfigError: a library that reads it is not installed.
    """
    if not isinstance(source, (str, Path)):
        return source if isinstance(source, Source) else ObjectSource(source)
    path = Path(source)
    with reading(f"images {path}:", "check the path and its permissions", damage="cannot be opened"):
        for kind in KINDS:
            if (found := kind.find(path, channels)) is not None:
                return found
    if not path.is_file():
        raise DataError(f"images {path}: there is no such file or folder; check the path")
    suffixes = f".zip, .npy, .npz, {', '.join(STACK_SUFFIXES)} or .pack"
    raise DataError(f"images {path}: must be a folder, {suffixes}; give the folder the file is in")


def divided(source: str | Path, labels: str | Path, channels: int = 3) -> Source:
    """Images with the column "split" of labels, by which `training.held_out` divides them.

    Args:
        source, channels: see `open_source`.
        labels: a table of labels, see `LabelTable.read`.
    Raises:
        DataError: images or labels that cannot be read, or no such column, in which some images are of "train".
    """
    images, column = open_source(source, channels), split_labels(LabelTable.read(labels))
    if column is None or "train" not in column.classes["split"]:
        has = f"has {', '.join(column.classes['split'])}" if column else "does not exist"
        raise DataError(f"labels {labels}: the column 'split' {has}; mark the images to train on by 'train' in it")
    return Labelled(images, column)


def open_listed(path: str | Path, channels: int = 3) -> ListedSource:
    """Like `open_source`, for callers that read images in any order.

    Raises:
        DataError: also for sources that can only be read in sequence.
    """
    source = open_source(path, channels)
    source = source.images if isinstance(source, Labelled) else source
    if not isinstance(source, ListedSource):
        remedy = f"make a pack of it first: diffae data prepare images {path} --size N --out PACK"
        raise DataError(f"images {path}: can only be read one after another, here they must be listed; {remedy}")
    return source


def is_there(path: Path) -> bool:
    """Whether `open_source` would find something at a path; neither the Hub nor another server is asked."""
    if path.exists() or hub.is_address(path) or is_remote(path) or any(map(is_stack, path.parents)):  # FILE/ARRAY
        return True
    try:
        return bool(webdataset.find_shards(path))
    except DataError:
        return False
