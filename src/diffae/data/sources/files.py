"""Where images come from: a folder, a .zip, arrays in files of many kinds, or a pack made earlier.

Each is a list of names and a `read(index, spec)`, sorted by name (code point by code point: "10.png" before "9.png").
All can be pickled and read from several threads and processes at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Real

from diffae.data.formats.files import from_array
from diffae.data.formats.stacks import STACK_SUFFIXES, TIFF, Stack, find_stack, is_stack
from diffae.data.image_fitting import restore_window
from diffae.data.images import SUFFIXES, ImageSpec, decode_image, fit_picture
from diffae.data.rows import ArrayFile, NameList
from diffae.errors import DataError

_MOST_BYTES = 2**30  # of one image file, compressed or not


@runtime_checkable
class Source(Protocol):
    """Images that can be listed and read one by one."""

    path: Path
    names: Sequence[str]
    """Paths relative to the source, with forward slashes, sorted; for arrays the index as eight digits."""

    def read(self, index: int, spec: ImageSpec) -> Real[np.ndarray, "h w c"]:
        """The image called names[index], made to the specification.

        Raises:
            DataError: it is damaged or cannot be made so.
        """
        ...

    def fingerprint(self) -> Iterator[tuple]:
        """What changes when the content changes: name, size, and modification time or checksum of each part."""
        ...


def open_source(path: str | Path, channels: int = 3) -> Source:
    """List the images of a folder (with the folders in it), a .zip, an array, a file of many images, or a pack.

    An .npy holds (n, h, w) or (n, h, w, c) and is read row by row; of an .npz the array "images", or else the first,
    is unpacked into memory. Files of many images: see `diffae.data.formats`; in a folder, image k of one is
    called FILE/k. Hidden files, __MACOSX and packs inside a folder are passed over.

    Args:
        path: what to open; an array in an HDF5 file or Zarr store is FILE/ARRAY.
        channels: as many as this, unnamed pages of a TIFF are the channels of one image.
    Raises:
        DataError: nothing there, something else, or no images in it.
        ConfigError: the library that reads it is not installed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if found := find_stack(path, channels):
        return StackSource(path, *found)
    if path.is_dir():
        return PackSource(path) if is_pack(path) else FolderSource(path, channels)
    if not path.is_file():
        raise DataError(f"images {path}: there is no such file or folder; check the path")
    if suffix == ".zip":
        return ZipSource(path)
    if suffix == ".npy":
        return ArraySource(path, ArrayFile(path))
    if suffix == ".npz":
        return ArraySource(path, _unpack(path))
    kinds = f".zip, .npy, .npz, {', '.join(STACK_SUFFIXES)} or .pack"
    raise DataError(f"images {path}: must be a folder, {kinds}; give the folder the file is in")


def is_pack(folder: Path) -> bool:
    """Whether a folder is a pack (see diffae.data.pack)."""
    return all((folder / part).is_file() for part in ("images.npy", "names.txt", "index.json"))


def images_below(root: Path) -> Iterator[str]:
    """Image files in a folder and the folders in it, as relative paths; not those of packs."""
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        here = Path(folder)
        identity = (here.stat().st_dev, here.stat().st_ino)
        if identity in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add(identity)
        relative = here.relative_to(root)
        yield from ((relative / name).as_posix() for name in folders if is_stack(here / name))  # Zarr stores
        folders[:] = [name for name in folders if not (is_pack(here / name) or is_stack(here / name))]
        for name in files:
            item = (relative / name).as_posix()
            if _is_shown(item) and (name.lower().endswith(SUFFIXES + STACK_SUFFIXES) or is_stack(here / name)):
                yield item


class FolderSource:
    """Image files in a folder and the folders in it; links are followed."""

    def __init__(self, path: Path, channels: int) -> None:
        self.path = path
        self._files = sorted(images_below(path))
        self._stacks = dict(self._open_stacks(channels))
        self.names: Sequence[str] = sorted(name for file in self._files for name in self._names_in(file))
        _need_images(self.names, path, SUFFIXES + STACK_SUFFIXES)

    def _names_in(self, file: str) -> list[str]:
        count = len(self._stacks[file]) if file in self._stacks else 1
        return [f"{file}/{k:04d}" for k in range(count)] if count > 1 else [file]

    def _open_stacks(self, channels: int) -> Iterator[tuple[str, Stack]]:
        """Those of the files that hold many images; a TIFF of one is read as any picture is."""
        for file in self._files:
            if not is_stack(self.path / file):
                continue
            try:
                stack = Stack(self.path / file, "", channels)
            except DataError:  # told when it is read, like other damaged files
                continue
            if len(stack) > 1 or not file.lower().endswith(TIFF):
                yield file, stack

    def read(self, index: int, spec: ImageSpec) -> Real[np.ndarray, "h w c"]:
        """See Source."""
        name = self.names[index]
        if name in self._stacks:
            return fit_picture(self._stacks[name].picture(0), name, spec)
        file, _, number = name.rpartition("/")
        if file in self._stacks:
            return fit_picture(self._stacks[file].picture(int(number)), name, spec)
        path = self.path / name
        if is_stack(path) and not name.lower().endswith(TIFF):
            Stack(path, "", spec.channels)  # says what is wrong with it
        try:
            _check_bytes(path.stat().st_size, name)  # reading at most so many bytes would first allocate them
            data = path.read_bytes()
        except OSError as error:
            raise DataError(f"image {name}: cannot be opened ({error.strerror}); mend or remove it") from None
        return decode_image(data, name, spec)

    def fingerprint(self) -> Iterator[tuple]:
        """Name, size and modification time in nanoseconds of each file; -1 of one that cannot be looked at.

        Of a Zarr store, a digest of those of all its files.
        """
        for name in self._files:
            path = self.path / name
            try:
                facts = path.stat()
                parts = _digest_of_files(path) if path.is_dir() else facts.st_mtime_ns
            except OSError:  # a link to nothing: told when it is read, like other damaged files
                yield name, -1, -1
                continue
            yield name, facts.st_size, parts


class StackSource:
    """The images of one file, store or array, or the one of them that is asked for."""

    def __init__(self, path: Path, stack: Stack, index: int | None) -> None:
        self.path = path
        self._stack = stack
        self._indices = range(len(stack)) if index is None else [index]
        self.names: Sequence[str] = [f"{k:08d}" for k in self._indices]

    def read(self, index: int, spec: ImageSpec) -> Real[np.ndarray, "h w c"]:
        """See Source."""
        return fit_picture(self._stack.picture(self._indices[index]), self.names[index], spec)

    def fingerprint(self) -> Iterator[tuple]:
        """Path inside, size and modification time in nanoseconds of the file, or of each file of a store."""
        file = self._stack.file
        inner = self.path.relative_to(file).as_posix()
        for part in sorted(file.rglob("*")) if file.is_dir() else [file]:
            facts = part.stat()
            yield inner, part.name, facts.st_size, facts.st_mtime_ns


class ZipSource:
    """Image files in a .zip; each process opens the archive for itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: tuple[int, zipfile.ZipFile] | None = None
        self._lock = threading.Lock()
        infos = {info.filename: info for info in self._archive().infolist() if not info.is_dir()}
        shown = sorted(filter(_is_shown, infos))
        self.names: Sequence[str] = [name for name in shown if name.lower().endswith(SUFFIXES)]
        self._facts = [(name, infos[name].file_size, infos[name].CRC) for name in self.names]
        stack = next((name for name in shown if name.lower().endswith(STACK_SUFFIXES)), None)
        if stack and not self.names:
            raise DataError(f"images {path}: holds {stack}, which is not read inside a .zip; unpack it")
        _need_images(self.names, path, SUFFIXES)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def _archive(self) -> zipfile.ZipFile:
        with self._lock:
            if self._open is None or self._open[0] != os.getpid():  # a forked process must not share the position
                try:
                    self._open = os.getpid(), zipfile.ZipFile(self.path)
                except (OSError, zipfile.BadZipFile) as error:
                    raise DataError(f"images {self.path}: is not a whole .zip ({error}); make it again") from None
            return self._open[1]

    def read(self, index: int, spec: ImageSpec) -> Real[np.ndarray, "h w c"]:
        """See Source."""
        name, size, _ = self._facts[index]
        _check_bytes(size, name)
        archive = self._archive()
        try:
            data = archive.read(name)
        except Exception as error:  # wrong checksum, unknown compression, password, damaged stream
            raise DataError(f"image {name}: cannot be unpacked ({error}); make the archive again") from error
        return decode_image(data, name, spec)

    def fingerprint(self) -> Iterator[tuple]:
        """Name, size and CRC-32 of each file: copies of an archive are the same."""
        return iter(self._facts)


class ArraySource:
    """Rows of an array (n, h, w) or (n, h, w, c), on disk or in memory."""

    def __init__(self, path: Path, rows: ArrayFile | np.ndarray, names: Sequence[str] | None = None) -> None:
        if len(rows.shape) not in (3, 4):
            raise DataError(f"images {path}: has shape {rows.shape}, it must be (n, h, w) or (n, h, w, c); reshape it")
        self.path = path
        self.rows = rows
        self.names: Sequence[str] = [f"{index:08d}" for index in range(len(rows))] if names is None else names

    def read(self, index: int, spec: ImageSpec) -> Real[np.ndarray, "h w c"]:
        """See Source."""
        return fit_picture(from_array(self.rows[index]), self.names[index], spec)

    def fingerprint(self) -> Iterator[tuple]:
        """Size and modification time in nanoseconds of the file."""
        file = self.rows.path if isinstance(self.rows, ArrayFile) else self.path
        facts = file.stat()
        yield self.path.name, facts.st_size, facts.st_mtime_ns


class PackSource(ArraySource):
    """The images of a pack; where it was made by a window, with the values that they stand for."""

    def __init__(self, path: Path) -> None:
        rows = ArrayFile(path / "images.npy")
        super().__init__(path, rows, NameList(path / "names.txt", len(rows)))
        index = json.loads((path / "index.json").read_text(encoding="utf-8"))
        self._window, self._samples = index.get("window"), index.get("samples")

    def read(self, index: int, spec: ImageSpec) -> Real[np.ndarray, "h w c"]:
        """See Source."""
        row = self.rows[index]
        if self._window is not None:
            row = restore_window(row, self._window, self._samples)
        return fit_picture(from_array(row), self.names[index], spec)


def _unpack(path: Path) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays["images" if "images" in arrays.files else arrays.files[0]]
    except IndexError:
        raise DataError(f"images {path}: holds no array; save one with numpy.savez(path, images=array)") from None
    except Exception as error:  # numpy and zipfile raise many kinds on damage
        raise DataError(f"images {path}: is not a whole .npz ({error}); make it again") from error


def _is_shown(name: str) -> bool:
    return not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _digest_of_files(folder: Path) -> str:
    """Of the names, sizes and modification times of all files in a folder."""
    digest = hashlib.sha256()
    for part in sorted(folder.rglob("*")):
        facts = part.stat()
        digest.update(
            f"{part.relative_to(folder)} {facts.st_size} {facts.st_mtime_ns}\n".encode(errors="surrogateescape")
        )
    return digest.hexdigest()


def _check_bytes(size: int, name: str) -> None:
    if size > _MOST_BYTES:
        raise DataError(f"image {name}: has more than the limit of {_MOST_BYTES} bytes; shrink or remove it")


def _need_images(names: Sequence[str], path: Path, suffixes: tuple[str, ...]) -> None:
    if not names:
        kinds = " ".join(dict.fromkeys(suffixes))
        raise DataError(f"images {path}: no images found, at least one file must end in {kinds}; check the path")
