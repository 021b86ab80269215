"""Image files in a folder or a .zip."""

from __future__ import annotations

import hashlib
import logging
import os
import posixpath
import stat
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Real

from diffae.data.formats.base import MAX_FILE_BYTES, check_limit
from diffae.data.formats.stacks import STACK_SUFFIXES, TIFF, Stack, is_stack
from diffae.data.images import SUFFIXES, ImageSpec, decode_image, fit_picture, load_image
from diffae.data.pack import is_pack
from diffae.data.sources.base import ListedSource, stamp
from diffae.errors import PASSING, DataError, reading

_log = logging.getLogger(__name__)

_UNREAD = (".heic", ".heif", ".jxl", ".jp2", ".psd", ".svg", ".tga", ".exr", ".ppm", ".dng", ".cr2", ".nef", ".arw")
"""Suffixes of pictures of other types."""


def find(path: Path, channels: int) -> ListedSource | None:
    """The images of a folder and the folders in it, or of a .zip. Hidden files and packs in a folder are ignored."""
    if path.is_dir():
        return FolderSource(path, channels)
    return ZipSource(path) if path.is_file() and path.suffix.lower() == ".zip" else None


def images_below(root: Path, unread: Counter[str] | None = None) -> Iterator[str]:
    """Image files in a folder and the folders in it, as relative paths; packs are ignored.

    Pictures of types that are not read are counted in `unread`, by suffix.
    """
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
        folders[:] = [
            name for name in folders
            if os.access(here / name, os.X_OK) and not (is_pack(here / name) or is_stack(here / name))
        ]  # fmt: skip
        for name in files:
            item = (relative / name).as_posix()
            if is_shown(item) and (name.lower().endswith(SUFFIXES + STACK_SUFFIXES) or is_stack(here / name)):
                yield item
            elif unread is not None and is_shown(item) and (suffix := posixpath.splitext(name.lower())[1]) in _UNREAD:
                unread[suffix] += 1


class FolderSource(ListedSource):
    """Image files in a folder and the folders in it. Links are followed; image k of a stack is called FILE/k."""

    def __init__(self, path: Path, channels: int) -> None:
        self.path = path
        unread: Counter[str] = Counter()
        self._files = sorted(images_below(path, unread))
        if unread:
            types = ", ".join(f"{count} {suffix}" for suffix, count in unread.most_common())
            _log.warning("images %s: files of types that are not read are left out: %s", path, types)
        self._stacks = dict(self._open_stacks(channels))
        counts = {file: len(self._stacks[file]) if file in self._stacks else 1 for file in self._files}
        names = ([f"{file}/{k:04d}" for k in range(n)] if n > 1 else [file] for file, n in counts.items())
        super().__init__(path, sorted(chain.from_iterable(names)))
        _need_images(self.names, path, SUFFIXES + STACK_SUFFIXES)

    def _open_stacks(self, channels: int) -> Iterator[tuple[str, Stack]]:
        """The files that may hold many images; a TIFF of one image is read like any picture."""
        for file in self._files:
            if not is_stack(self.path / file):
                continue
            try:
                stack = Stack(self.path / file, "", channels)
            except DataError:  # raised again when it is read, as for other damaged files
                continue
            if len(stack) > 1 or not file.lower().endswith(TIFF):
                yield file, stack

    def read(self, index: int, spec: ImageSpec) -> Real[np.ndarray, "h w c"]:
        name = self.names[index]
        file, _, number = name.rpartition("/")
        if name in self._stacks:
            return fit_picture(self._stacks[name].picture(0), name, spec)
        if file in self._stacks:
            return fit_picture(self._stacks[file].picture(int(number)), name, spec)
        path = self.path / name
        if is_stack(path) and not name.lower().endswith(TIFF):
            Stack(path, "", spec.channels)  # raises the reason why it could not be opened
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):  # a pipe would wait, a device never end
                raise DataError(f"image {name}: is not a regular file; remove it")
            _check_bytes(status.st_size, name)
            data = path.read_bytes()
        except OSError as error:
            if error.errno in PASSING:  # no reason to leave this image out
                raise
            raise DataError(f"image {name}: cannot be opened ({error.strerror}); repair or remove it") from None
        return decode_image(data, name, spec)

    def fingerprint(self) -> Iterator[tuple]:
        """Name, size and modification time of each file, -1 if unreadable; for a Zarr store a digest of its files."""
        for name in self._files:
            path = self.path / name
            try:
                size, time = stamp(path)
                yield name, size, _digest_of_files(path) if path.is_dir() else time
            except OSError:  # a broken link, reported when it is read
                yield name, -1, -1


class FileSource(ListedSource):
    """One image file; its source is the folder it is in."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.parent, [path.name])

    def read(self, index: int, spec: ImageSpec) -> Real[np.ndarray, "h w c"]:
        given = {"crop": spec.crop, "background": spec.background, "window": spec.window}
        return load_image(self.path / self.names[index], spec.channels, spec.size, **given)

    def fingerprint(self) -> Iterator[tuple]:
        """Name, size and modification time of the file."""
        yield self.names[0], *stamp(self.path / self.names[0])


class ZipSource(ListedSource):
    """Image files in a .zip. Each process opens the archive for itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: tuple[int, zipfile.ZipFile] | None = None
        self._lock = threading.Lock()
        infos = {info.filename: info for info in self._archive().infolist() if not info.is_dir()}
        check_limit(len(infos), "images")
        shown = sorted(filter(is_shown, infos))
        super().__init__(path, [name for name in shown if name.lower().endswith(SUFFIXES)])
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
                self._open = os.getpid(), open_zip(self.path)
            return self._open[1]

    def read(self, index: int, spec: ImageSpec) -> Real[np.ndarray, "h w c"]:
        name = self.names[index]
        return decode_image(unpack(self._archive(), name, f"image {name}:"), name, spec)

    def fingerprint(self) -> Iterator[tuple]:
        """Name, size and CRC-32 of each file, so copies of an archive have the same fingerprint."""
        return iter(self._facts)


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open an archive.

    Raises:
        DataError: it is damaged, or of a version or an encoding that is not read.
    """
    with reading(f"images {path}:", "make it again", damage="is not a complete .zip"):
        return zipfile.ZipFile(path)


def unpack(archive: zipfile.ZipFile, name: str, what: str) -> bytes:
    """The content of a member, of the size that the archive states.

    Raises:
        DataError: it is larger than the limit, damaged, encrypted, or compressed by another method than deflate.
    """
    with reading(what, "make the archive again", damage="cannot be unpacked"):
        info = archive.getinfo(name)
        _check_bytes(info.file_size, name)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others expand without a limit
            raise DataError(f"{what} is compressed by method {info.compress_type}; store it, or use deflate")
        with archive.open(info) as file:
            return file.read(info.file_size)  # without a size, all that it expands to is held before it is cut


def is_shown(name: str) -> bool:
    """Whether a file is meant to be seen: not hidden, nor what macOS puts into archives."""
    return not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _digest_of_files(folder: Path) -> str:
    """A hash of the names, sizes and modification times of all files in a folder."""
    digest = hashlib.sha256()
    for part in sorted(folder.rglob("*")):
        size, time = stamp(part)
        digest.update(f"{part.relative_to(folder)} {size} {time}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _check_bytes(size: int, name: str) -> None:
    if size > MAX_FILE_BYTES:
        raise DataError(f"image {name}: has more than the limit of {MAX_FILE_BYTES} bytes; shrink or remove it")


def _need_images(names: Sequence[str], path: Path, suffixes: tuple[str, ...]) -> None:
    if not names:
        kinds = " ".join(dict.fromkeys(suffixes))
        raise DataError(f"images {path}: no images found, at least one file must end in {kinds}; check the path")
