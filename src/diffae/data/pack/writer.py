"""Writing a pack: row by row into a hidden folder, renamed when it is complete, and resumable when asked."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import UInt

from diffae.data.arrays import encode_name, write_header
from diffae.errors import SHORT_OF_SPACE, DataError

FORMAT = 1
IMAGES, NAMES, LABELS, INDEX, PROGRESS = "images.npy", "names.txt", "labels.csv", "index.json", "progress.json"
_SAVE_EVERY = 5.0  # seconds between saves of the progress, each of which waits for the disk

KeyOfFirst = Callable[[int], str]
"""A key of the settings and of the first so many images of the source; see `diffae.data.build.ContentKey`."""


@dataclass(frozen=True)
class Progress:
    """How much of an unfinished pack has been written."""

    done: int = 0  # images read, including those left out
    count: int = 0  # images written
    dtype: str = "uint8"
    key: str = ""  # KeyOfFirst of the images read
    sizes: dict[str, int] = field(default_factory=dict)  # bytes of each file
    skipped: list[tuple[str, str]] = field(default_factory=list)  # name and reason of each image left out

    @classmethod
    def read(cls, path: Path, key_of_first: KeyOfFirst) -> Progress:
        """Read the progress of the pack `path`; an empty one if there is none, or if its images have changed."""
        folder = partial_folder(path)
        try:
            progress = cls(**json.loads((folder / PROGRESS).read_text(encoding="utf-8")))
            complete = all((folder / name).stat().st_size >= size for name, size in progress.sizes.items())
            valid = complete and key_of_first(progress.done) == progress.key
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):  # missing or damaged
            return cls()
        return progress if valid else cls()


def partial_folder(path: Path) -> Path:
    """The hidden folder in which the pack `path` is written."""
    return path.with_name(f".{path.name}.partial")


class PackWriter:
    """Writes a pack in a hidden folder beside its place, and renames that when the pack is complete.

    A context manager, to be used inside `diffae.data.locks.locked`. Leaving it without `finish` removes what was
    written, or, with `key_of_first`, saves the progress so that a later writer can resume.

    Args:
        path: the pack's folder.
        shape: (size, size, channels) of an image.
        dtype: of the samples.
        columns: names of the labels that come with each image; if empty, no labels.csv is written.
        key_of_first: makes the pack resumable: the key by which a later run recognises the images already read.
        start: the progress to resume from.
    Raises:
        DataError: the disk is full or cannot be written.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, ...],
        dtype: np.dtype,
        columns: Sequence[str] = (),
        key_of_first: KeyOfFirst | None = None,
        start: Progress | None = None,
    ) -> None:
        start = start or Progress()
        self.path, self.shape, self.dtype = path, shape, dtype
        self.done, self.count, self.skipped = start.done, start.count, list(start.skipped)
        self._columns, self._key_of_first, self._start = columns, key_of_first, start
        self._folder = partial_folder(path)
        self._files: dict[str, IO[bytes]] = {}
        self._consistent = start, len(start.skipped)
        """The last state in which all files held the same images, without its key, and how many were skipped then."""
        self._saved = time.monotonic()

    def __enter__(self) -> PackWriter:
        try:
            if not self._start.done:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder.mkdir(parents=True)
            for name in (IMAGES, NAMES, LABELS) if self._columns else (IMAGES, NAMES):
                self._files[name] = file = (self._folder / name).open("r+b" if self._start.done else "wb")
                if self._start.done:
                    file.truncate(self._start.sizes[name])
                    file.seek(0, os.SEEK_END)
            if not self._start.done:
                write_header(self._files[IMAGES], (0, *self.shape), self.dtype)
                self._write_labels([("file", *self._columns)])
        except OSError as error:
            raise self._explain(error) from None
        return self

    def __exit__(self, *_: object) -> None:
        written = self._consistent[0].done
        try:
            if self._files and written > self._start.done:
                self._save_progress()
        finally:
            self._close()
            if not written:
                shutil.rmtree(self._folder, ignore_errors=True)

    def append(
        self,
        images: UInt[np.ndarray, "k h w c"],
        names: Sequence[str],
        labels: Iterable[Sequence[str]] = (),
        skipped: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Write images with their names and cells of labels; `skipped` has name and reason of those left out."""
        if images.shape[1:] != self.shape or images.dtype != self.dtype:
            wanted = f"{self.dtype} of shape (k, {', '.join(map(str, self.shape))})"
            raise DataError(f"pack {self.path}: got {images.dtype} of shape {images.shape}, not {wanted}; convert it")
        if len(names) != len(images):
            raise DataError(f"pack {self.path}: got {len(names)} names for {len(images)} images; give one for each")
        try:
            self._files[IMAGES].write(np.ascontiguousarray(images).data)
            self._files[NAMES].writelines(map(encode_name, names))
            self._write_labels((name, *row) for name, row in zip(names, labels, strict=True))
        except OSError as error:
            raise self._explain(error) from None
        self.count += len(images)
        self.done += len(images) + len(skipped)
        self.skipped += skipped
        if self._key_of_first is not None:
            sizes = {name: file.tell() for name, file in self._files.items()}
            self._consistent = Progress(self.done, self.count, self.dtype.name, sizes=sizes), len(self.skipped)
            if time.monotonic() - self._saved > _SAVE_EVERY:
                self._save_progress()

    def finish(self, index: dict[str, Any]) -> None:
        """Complete the files and rename the folder; `index` holds what the arrays do not show."""
        size, _, channels = self.shape
        facts = {"format": FORMAT, "count": self.count, "size": size, "channels": channels, "dtype": self.dtype.name}
        try:
            self._files[IMAGES].seek(0)
            write_header(self._files[IMAGES], (self.count, *self.shape), self.dtype)
            self._flush()
            text = json.dumps({**facts, **index, "skipped": self.skipped}, indent=1)
            (self._folder / INDEX).write_text(text + "\n", encoding="utf-8")
            (self._folder / PROGRESS).unlink(missing_ok=True)
            self._close()  # Windows does not rename a folder with open files
            os.rename(self._folder, self.path)
        except OSError as error:
            raise self._explain(error) from None

    def _write_labels(self, rows: Iterable[Sequence[str]]) -> None:
        if self._columns:
            buffer = io.StringIO()
            csv.writer(buffer, lineterminator="\n").writerows(rows)
            self._files[LABELS].write(buffer.getvalue().encode("utf-8", "surrogateescape"))

    def _flush(self) -> None:
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())

    def _close(self) -> None:
        while self._files:
            with suppress(OSError):  # the disk may be full once more
                self._files.popitem()[1].close()

    def _save_progress(self) -> None:
        assert self._key_of_first is not None
        temporary = self._folder / f"{PROGRESS}.part"
        try:
            self._flush()
            state, skipped = self._consistent  # an interrupt may come between two files of `append`
            progress = replace(state, key=self._key_of_first(state.done), skipped=self.skipped[:skipped])
            temporary.write_text(json.dumps(asdict(progress)), encoding="utf-8")
            os.replace(temporary, self._folder / PROGRESS)
        except OSError as error:
            raise self._explain(error) from None
        self._saved = time.monotonic()

    def _explain(self, error: OSError) -> DataError:
        if error.errno in SHORT_OF_SPACE:
            return DataError(f"pack {self.path}: the disk is full after {self.count} images; free some space")
        return DataError(f"pack {self.path}: cannot be written ({error.strerror}); choose another folder")
