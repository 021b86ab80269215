"""HDF5 files and Zarr stores: every row of an array (n, h, w) or (n, h, w, c) is an image; OME-Zarr names its axes."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from diffae.data.formats.base import Format, Planes, check_limit, library
from diffae.errors import DataError


class Hdf5(Format):
    """Files ending in .h5 or .hdf5."""

    suffixes = (".h5", ".hdf5")
    named_arrays = True

    def open(self, path: Path, inner: str) -> Planes:
        file = library("h5py", "hdf5", f"images {path}").File(path, "r")
        arrays: dict[str, Any] = {}
        file.visititems(lambda name, item: arrays.update({name: item} if hasattr(item, "shape") else {}))
        array = _chosen(arrays, inner)
        if array.is_virtual or array.external:  # these may name any file of this machine
            raise DataError("keeps its samples in other files; copy them into one file, for instance with h5repack")
        return _planes(array, close=file.close)


class Zarr(Format):
    """Folders ending in .zarr."""

    suffixes = (".zarr",)
    named_arrays = True

    def matches(self, path: Path) -> bool:
        return path.name.lower().endswith(self.suffixes) and path.is_dir()

    def open(self, path: Path, inner: str) -> Planes:
        _need_regular(path)
        root: Any = library("zarr", "zarr", f"images {path}").open(str(path), mode="r")
        if hasattr(root, "shape"):
            if inner:
                raise DataError(f"is one array, it has no {inner}; leave that out")
            return _planes(root)
        attributes: dict[str, Any] = dict(root.attrs)
        scales: Any = (attributes.get("ome", attributes).get("multiscales") or [None])[0]  # from OME-Zarr 0.5; before
        levels = [level["path"] for level in scales["datasets"]] if scales else []
        arrays = {name: item for name, item in root.members(max_depth=None) if hasattr(item, "shape")}
        if inner not in ("", *levels) or not levels:
            return _planes(_chosen(arrays, inner))
        axes = [axis["name"] if isinstance(axis, dict) else axis for axis in scales.get("axes", "tczyx")]
        return _planes(_chosen(arrays, inner or levels[0]), "".join(axes).upper())


def _need_regular(folder: Path) -> None:
    """Raise for a store with a pipe or device, whose opening waits or never ends, or a link to outside."""
    for here, _, names in os.walk(folder):
        for name in names:
            path = Path(here, name)
            if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
                raise DataError(f"holds {path.relative_to(folder)}, which is not a regular file inside; remove it")


def _chosen(arrays: dict[str, Any], inner: str) -> Any:
    """The array called `inner`; without a name "images", or else the first that may hold images."""
    fitting = sorted(name for name, array in arrays.items() if len(array.shape) in (3, 4))
    if inner and inner not in arrays:
        known = ", ".join(fitting) or "none"
        raise DataError(f"has no array {inner}; those of 3 or 4 dimensions are: {known}")
    if not inner and not fitting:
        raise DataError("has no array of shape (n, h, w) or (n, h, w, c); save one as images")
    return arrays[inner or ("images" if "images" in fitting else fitting[0])]


def _planes(array: Any, axes: str = "", close: Callable[[], object] = lambda: None) -> Planes:
    """An array; without names of its axes it is laid out as in .npy files."""
    shape = tuple(array.shape)
    if array.dtype.kind not in "biuf":
        raise DataError(f"samples are {array.dtype}, they must be numbers; convert them")
    if not axes and len(shape) not in (3, 4):
        raise DataError(f"has shape {shape}, it must be (n, h, w) or (n, h, w, c); reshape it")
    check_limit(math.prod(array.chunks or ()) * array.dtype.itemsize, "bytes")
    bands = "" if axes else "RGB"
    return Planes(axes or "NYXC"[: len(shape)], shape, _by_chunks(array), bands, close, array.dtype.itemsize)


def _by_chunks(array: Any) -> Callable[[tuple[int | slice, ...]], np.ndarray]:
    """Read whole chunks along the first axis and cache the latest two: images are mostly read in order."""
    step = array.chunks[0] if array.chunks else 1

    @lru_cache(maxsize=2)
    def chunk(number: int, others: tuple[int | None, ...]) -> np.ndarray:
        rest = (slice(None) if other is None else other for other in others)
        return array[(slice(number * step, (number + 1) * step), *rest)]

    def read(at: tuple[int | slice, ...]) -> np.ndarray:
        if isinstance(at[0], slice):
            return array[at]
        others = tuple(None if isinstance(other, slice) else other for other in at[1:])  # slices have no hash
        return chunk(at[0] // step, others)[at[0] % step]

    return read
