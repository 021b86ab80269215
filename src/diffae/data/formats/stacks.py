"""Files of many images: multi-page TIFF, HDF5, Zarr, NIfTI and DICOM, read one image at a time.

Each is an array with named axes: Y and X are the rows and columns, C and S (samples) the channels; every other axis
counts images. Image number k of such a file is called FILE/k, an array inside an HDF5 file or Zarr store FILE/ARRAY.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffae.data.formats.files import (
    CHANNEL_AXES,
    UNNAMED_AXES,
    Picture,
    check_pixels,
    from_array,
    hearing_tifffile,
    only_series,
)
from diffae.errors import ConfigError, DataError

TIFF = (".tif", ".tiff")
STACK_SUFFIXES = (*TIFF, ".dcm", ".dicom", ".nii", ".nii.gz", ".h5", ".hdf5", ".zarr")

# The libraries keep positions, caches and global locks of their own: one thread reads at a time.
_READING = threading.RLock()
_OPEN: OrderedDict[tuple, NamedArray] = OrderedDict()
_MOST_OPEN = 4


class NamedArray(NamedTuple):
    """An array on disk."""

    axes: str
    """One letter for each dimension."""
    shape: tuple[int, ...]
    read: Callable[[tuple[int | slice, ...]], np.ndarray]
    """Takes a number or slice(None) for each dimension."""
    colours: bool = False
    """Whether three channels are red, green and blue."""
    close: Callable[[], None] = lambda: None
    """Gives back what was opened."""


class Stack:
    """The images of one file or array. Opened on use, so it can be pickled and used in several processes."""

    def __init__(self, file: Path, inner: str, channels: int) -> None:
        """
        Args:
            file: what to open.
            inner: name of the array inside, "" for the one there is.
            channels: as many as this, unnamed pages of a TIFF are the channels of one image.

        Raises:
            DataError: it cannot be opened, or has no such array.
            ConfigError: the library that reads it is not installed.
        """
        self.file = file
        self._inner, self._channels = inner, channels
        with _READING:
            array = self._array()
        self._counted = [axis for axis, letter in enumerate(array.axes) if letter not in "YX" + CHANNEL_AXES]
        self._sizes = tuple(array.shape[axis] for axis in self._counted)

    def __len__(self) -> int:
        return int(np.prod(self._sizes, dtype=np.int64))

    def _array(self) -> NamedArray:
        """The array, opened or still open; files that changed are opened again."""
        facts = self.file.stat()
        # an open file must not be shared with a forked process
        key = (str(self.file), self._inner, self._channels, os.getpid(), facts.st_mtime_ns, facts.st_size)
        if key not in _OPEN:
            _OPEN[key] = _open(self.file, self._inner, self._channels)
        _OPEN.move_to_end(key)
        while len(_OPEN) > _MOST_OPEN:
            _OPEN.popitem(last=False)[1].close()
        return _OPEN[key]

    def picture(self, index: int) -> Picture:
        """Image number `index`.

        Raises:
            DataError: it is damaged, too large, or there is none of that number.
        """
        if not 0 <= index < len(self):
            raise DataError(f"image {self.file}/{index}: its images are 0..{len(self) - 1}; name one of these")
        where = dict(zip(self._counted, np.unravel_index(index, self._sizes), strict=True)) if self._counted else {}
        try:
            with _READING:
                return _read(self._array(), {axis: int(place) for axis, place in where.items()})
        except (DataError, ConfigError) as error:
            raise DataError(f"image {self.file}/{index}: {error}") from None
        except Exception as error:  # these libraries raise nearly anything on damage
            what = f"is damaged or cannot be decoded ({error})"
            raise DataError(f"image {self.file}/{index}: {what}; replace or remove it") from error


def _read(array: NamedArray, where: dict[int, int]) -> Picture:
    """The image at these places of the axes that count images."""
    check_pixels(array.shape[array.axes.index("Y")] * array.shape[array.axes.index("X")])
    pixels = np.asarray(array.read(tuple(where.get(axis, slice(None)) for axis in range(len(array.axes)))))
    letters = [letter for axis, letter in enumerate(array.axes) if axis not in where]
    channels = [place for place, letter in enumerate(letters) if letter in CHANNEL_AXES]
    pixels = np.transpose(pixels, (letters.index("Y"), letters.index("X"), *channels))
    picture = from_array(pixels.reshape(*pixels.shape[:2], -1))
    return picture if array.colours or picture.bands != "RGB" else picture._replace(bands="")


def is_stack(path: Path) -> bool:
    """Whether a path is that of a file, or of a Zarr store, that may hold many images."""
    name = path.name.lower()
    if name.endswith(".zarr"):
        return path.is_dir()
    return path.is_file() if name.endswith(STACK_SUFFIXES) else "." not in name and _is_bare_dicom(path)


def _is_bare_dicom(path: Path) -> bool:
    """Whether a file without suffix is a DICOM image, as scanners name them; the list of them, DICOMDIR, is none."""
    try:
        if path.name.upper() == "DICOMDIR" or not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def find_stack(path: str | Path, channels: int) -> tuple[Stack, int | None] | None:
    """The stack that FILE, FILE/ARRAY, FILE/k or FILE/ARRAY/k names, and k; None for any other path.

    Raises:
        DataError: the file cannot be opened, or has no such array.
        ConfigError: the library that reads it is not installed.
    """
    path = Path(path)
    files = [file for file in (path, *path.parents) if is_stack(file)]
    if not files:
        return None
    file = files[-1]
    inner = path.relative_to(file).as_posix().removeprefix(".")
    outer, _, last = inner.rpartition("/")
    try:
        return Stack(file, inner, channels), None
    except DataError:
        if not last.isdecimal():
            raise
    return Stack(file, outer, channels), int(last)  # no array is called so


def _open(path: Path, inner: str, channels: int) -> NamedArray:
    suffix = next((suffix for suffix in STACK_SUFFIXES if path.name.lower().endswith(suffix)), ".dcm")
    if inner and suffix not in (".h5", ".hdf5", ".zarr"):
        raise DataError(f"images {path}: has no {inner}; name an image of it by its number")
    try:
        if suffix in TIFF:
            array = _open_tiff(path, channels)
        elif suffix in (".dcm", ".dicom"):
            array = _open_dicom(path)
        elif suffix in (".nii", ".nii.gz"):
            array = _open_nifti(path)
        else:
            array = (_open_zarr if suffix == ".zarr" else _open_hdf5)(path, inner)
    except (DataError, ConfigError):
        raise
    except Exception as error:  # these libraries raise nearly anything on damage
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"images {path}: is damaged or not a {suffix} file ({reason}); make it again") from error
    if not {"Y", "X"} <= set(array.axes) or 0 in array.shape:
        raise DataError(f"images {path}: has axes {array.axes} of {array.shape}, it must hold images; convert it")
    return array


def library(name: str, extra: str, what: str) -> Any:
    """A module of an optional library.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        needed = name.partition(".")[0]
        remedy = f"pip install 'diffae[{extra}]'"
        raise ConfigError(f"{what}: reading it needs {needed}, which is not installed; {remedy}") from None


def _open_tiff(path: Path, channels: int) -> NamedArray:
    import tifffile

    try:
        with ExitStack() as opened:
            with hearing_tifffile():
                file = opened.enter_context(tifffile.TiffFile(path))
                series = only_series(file)
            opened.pop_all()  # it stays open
    except DataError as error:
        raise DataError(f"images {path}: {error}") from None
    axes, shape = series.axes, tuple(series.shape)
    inside = len(series.keyframe.shape)  # dimensions of one page
    before = shape[: len(shape) - inside]
    if len(before) == 1 and axes[0] in UNNAMED_AXES and shape[0] == channels:
        axes = "C" + axes[1:]
    pages = np.arange(int(np.prod(before, dtype=np.int64))).reshape(before)
    if len(series.pages) != pages.size:  # one long strip, as ImageJ writes large ones
        return NamedArray(axes, shape, lambda at: series.asarray(out="memmap")[at], close=file.close)

    def read(at: tuple[int | slice, ...]) -> np.ndarray:
        chosen = pages[at[: len(before)]]
        found = [series.pages[int(page)].asarray() for page in np.atleast_1d(chosen).ravel()]
        planes = np.stack(found).reshape(*chosen.shape, *found[0].shape)
        return planes[(..., *at[len(before) :])]

    return NamedArray(axes, shape, read, series.keyframe.photometric == 2, file.close)


def _open_dicom(path: Path) -> NamedArray:
    what = f"images {path}"
    pydicom, pixels = library("pydicom", "dicom", what), library("pydicom.pixels", "dicom", what)
    facts = pydicom.dcmread(path, stop_before_pixels=True)
    frames, samples = int(facts.get("NumberOfFrames", 1)), int(facts.SamplesPerPixel)
    slope, intercept = float(facts.get("RescaleSlope", 1)), float(facts.get("RescaleIntercept", 0))
    top = 2 ** int(facts.BitsStored)
    span = (-top // 2, top // 2 - 1) if facts.PixelRepresentation else (0, top - 1)
    inverted = facts.PhotometricInterpretation == "MONOCHROME1"  # its least value is white

    def read(at: tuple[int | slice, ...]) -> np.ndarray:
        stored = pixels.pixel_array(path, index=at[0])  # decodes this frame alone
        if inverted:
            stored = (sum(span) - stored.astype(np.int64)).clip(*span).astype(stored.dtype)
        return stored if samples > 1 else _rescaled(stored, slope, intercept, span)

    shape = (frames, int(facts.Rows), int(facts.Columns), samples)
    return NamedArray("ZYXS"[: 3 + (samples > 1)], shape[: 3 + (samples > 1)], read, colours=samples == 3)


def _open_nifti(path: Path) -> NamedArray:
    image = library("nibabel", "nifti", f"images {path}").load(path)
    stored = image.dataobj
    raw = stored.get_unscaled()  # mapped; of a compressed file, which has no middle to begin at, the whole volume
    span = (np.iinfo(raw.dtype).min, np.iinfo(raw.dtype).max) if raw.dtype.kind in "ui" else (0, 0)

    def read(at: tuple[int | slice, ...]) -> np.ndarray:
        return _rescaled(np.array(raw[at]), float(stored.slope), float(stored.inter), span)

    if raw.ndim > 4:
        raise DataError(f"images {path}: has {raw.ndim} dimensions, up to 4 are read (x, y, z, channels); drop some")
    return NamedArray("XYZC"[: raw.ndim], raw.shape, read)


def _rescaled(stored: np.ndarray, slope: float, intercept: float, span: tuple[int, int]) -> np.ndarray:
    """slope * stored + intercept: in a type of integers that holds it where that is exact, else in float32.

    span: least and largest stored value there can be, so that all images of a file get the same type.
    """
    if (slope, intercept) == (1, 0):
        return stored
    if stored.dtype.kind == "f" or not (slope.is_integer() and intercept.is_integer()):
        return (stored * np.float64(slope) + intercept).astype(np.float32)
    ends = sorted(int(slope) * end + int(intercept) for end in span)
    fits = ends[0] >= -(2**15) and ends[1] < 2**15
    return (stored.astype(np.int64) * int(slope) + int(intercept)).astype(np.int16 if fits else np.int32)


def _open_hdf5(path: Path, inner: str) -> NamedArray:
    h5py = library("h5py", "hdf5", f"images {path}")
    arrays: dict[str, Any] = {}

    def note(name: str, item: Any) -> None:
        if hasattr(item, "shape"):
            arrays[name] = item

    file = h5py.File(path, "r")
    file.visititems(note)
    return _numbered(_chosen(arrays, inner, path), path)._replace(close=file.close)


def _open_zarr(path: Path, inner: str) -> NamedArray:
    zarr = library("zarr", "zarr", f"images {path}")
    root = zarr.open(str(path), mode="r")
    if not hasattr(root, "shape"):
        about = dict(root.attrs)
        scales = (about.get("ome", about).get("multiscales") or [None])[0]  # OME-NGFF from version 0.5, and before
        arrays = {item.path: item for item in _arrays_below(root)}
        if scales and inner in ("", *(scale["path"] for scale in scales["datasets"])):
            array = _chosen(arrays, inner or scales["datasets"][0]["path"], path)
            named = [axis["name"] if isinstance(axis, dict) else axis for axis in scales.get("axes", "tczyx")]
            return NamedArray("".join(named).upper(), array.shape, _by_blocks(array, array.chunks))
        root = _chosen(arrays, inner, path)
    elif inner:
        raise DataError(f"images {path}: is one array, it has no {inner}; leave that out")
    return _numbered(root, path)


def _arrays_below(group: Any) -> list[Any]:
    return [item for _, item in group.arrays()] + [a for _, sub in group.groups() for a in _arrays_below(sub)]


def _chosen(arrays: dict[str, Any], inner: str, path: Path) -> Any:
    """The array called `inner`; else "images"; else the first that may hold images."""
    fitting = sorted(name for name, array in arrays.items() if len(array.shape) in (3, 4))
    if inner and inner not in arrays:
        known = ", ".join(fitting) or "none"
        raise DataError(f"images {path}: has no array {inner}; those of 3 or 4 dimensions are: {known}")
    if not inner and not fitting:
        raise DataError(f"images {path}: has no array of shape (n, h, w) or (n, h, w, c); save one as images")
    return arrays[inner or ("images" if "images" in fitting else fitting[0])]


def _numbered(array: Any, path: Path) -> NamedArray:
    """An array without names of its axes: images by number, as in .npy files."""
    shape = tuple(array.shape)
    if len(shape) not in (3, 4):
        raise DataError(f"images {path}: has shape {shape}, it must be (n, h, w) or (n, h, w, c); reshape it")
    return NamedArray("NYXC"[: len(shape)], shape, _by_blocks(array, array.chunks), colours=True)


def _by_blocks(array: Any, chunks: tuple[int, ...] | None) -> Callable[[tuple[int | slice, ...]], np.ndarray]:
    """Reads whole chunks along the first axis and keeps the latest: its images are asked for one after another."""
    step = chunks[0] if chunks else 1

    @lru_cache(maxsize=2)
    def block(number: int, others: tuple[int | None, ...]) -> np.ndarray:
        rest = (slice(None) if other is None else other for other in others)
        return array[(slice(number * step, (number + 1) * step), *rest)]

    def read(at: tuple[int | slice, ...]) -> np.ndarray:
        if isinstance(at[0], slice):
            return array[at]
        others = tuple(None if isinstance(other, slice) else other for other in at[1:])  # slices have no hash
        return block(at[0] // step, others)[at[0] % step]

    return read
