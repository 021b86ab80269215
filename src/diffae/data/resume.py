"""Making a pack in several sittings: what was written is kept when the work stops, and gone on from.

Beside the rows of the unfinished pack lies progress.json, written every few seconds and when the work stops: how many
images were looked at, how long each file was then, and a digest of those images and all settings. Whoever makes the
same pack again checks that digest against the images of today, cuts the files to those lengths, and goes on. Images
that were not yet looked at may have changed meanwhile: a damaged one can be mended without starting again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from types import TracebackType

import numpy as np

from diffae.data.images import ImageSpec
from diffae.data.pack import FORMAT, PackWriter, beside_of
from diffae.data.sources.files import Source
from diffae.data.sources.streams import Stream

_PROGRESS = "progress.json"
_EVERY = 5.0  # seconds between notes, each of which waits for the disk


class ContentKey:
    """SHA-256 of settings and of the fingerprints of images, of all of them or of the first so many.

    Args:
        images: where the images come from.
        spec: what they are made into.
        about: other facts on which the pack depends, as JSON has them.
    """

    def __init__(self, images: Source | Stream, spec: ImageSpec, *about: object) -> None:
        self._images = images
        self._settings = json.dumps([FORMAT, spec.facts(), *about]).encode()
        self._restart()

    def _restart(self) -> None:
        self._digest, self._taken = hashlib.sha256(self._settings), 0
        self._entries: Iterator[tuple] = self._images.fingerprint()

    def of_all(self) -> str:
        """The key of the whole pack."""
        self._restart()
        self._take(None)
        key = self._digest.hexdigest()
        self._restart()
        return key

    def of_first(self, count: int) -> str:
        """The key of the first `count` images.

        An archive's fingerprint has an entry for each file of images, so no fewer than were read are taken.
        """
        if count < self._taken:
            self._restart()
        self._take(count - self._taken)
        self._taken = count
        return self._digest.hexdigest()

    def _take(self, count: int | None) -> None:
        for entry in islice(self._entries, count):
            self._digest.update(json.dumps(entry).encode())


@dataclass(frozen=True)
class Progress:
    """How far an unfinished pack has come."""

    done: int = 0
    """Images looked at."""
    count: int = 0
    """Images written."""
    dtype: str = "uint8"
    """Type of the samples."""
    key: str = ""
    """Of the settings and of the images looked at, see ContentKey."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Bytes of each file."""
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """Name and reason of each image left out."""

    @classmethod
    def read(cls, path: Path, content: ContentKey) -> Progress:
        """That of the unfinished pack that is to be `path`; none where there is no such, or not of this content."""
        beside = beside_of(path)
        try:
            progress = cls(**json.loads((beside / _PROGRESS).read_text(encoding="utf-8")))
            there = all((beside / name).stat().st_size >= size for name, size in progress.sizes.items())
            fits = there and content.of_first(progress.done) == progress.key
        except (OSError, ValueError, TypeError):  # not there, or damaged
            return cls()
        return progress if fits else cls()


class ResumableWriter(PackWriter):
    """A PackWriter that keeps what was written when it is left early, and continues from `progress`."""

    def __init__(
        self,
        path: Path,
        size: int,
        channels: int,
        dtype: np.dtype,
        columns: Sequence[str],
        content: ContentKey,
        progress: Progress,
    ) -> None:
        super().__init__(path, size, channels, dtype, columns)
        self._content, self._start = content, progress
        self._whole = progress, len(progress.skipped)
        """The last state in which all files held the same images, and how many were skipped; its key is made later."""
        self._noted = time.monotonic()
        self._finished = False

    def __enter__(self) -> ResumableWriter:
        if not self._start.done:
            super().__enter__()
            return self
        try:
            self._open("r+b")
            for name, file in self._files.items():
                file.truncate(self._start.sizes[name])
                file.seek(0, os.SEEK_END)
        except OSError as error:
            raise self._explain(error) from None
        self.count, self.done, self.skipped = self._start.count, self._start.done, list(self._start.skipped)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        try:
            if not self._finished and self._whole[0].done > self._start.done:
                self._note()
        finally:
            self._close()
            if not self._whole[0].done:
                shutil.rmtree(self._beside, ignore_errors=True)

    def looked_at(self, count: int, skipped: Sequence[tuple[str, str]] = ()) -> None:
        """As PackWriter's."""
        super().looked_at(count, skipped)
        sizes = {name: file.tell() for name, file in self._files.items()}
        self._whole = Progress(self.done, self.count, self._dtype.name, sizes=sizes), len(self.skipped)
        if time.monotonic() - self._noted > _EVERY:
            self._note()

    def finish(self, index: dict) -> None:
        """As PackWriter's."""
        (self._beside / _PROGRESS).unlink(missing_ok=True)
        super().finish(index)
        self._finished = True

    def _note(self) -> None:
        temporary = self._beside / f"{_PROGRESS}.part"
        try:
            self._flush()
            whole, left_out = self._whole  # Ctrl-C may come between two files of `append`, or in `finish`
            key = self._content.of_first(whole.done)
            progress = replace(whole, key=key, skipped=self.skipped[:left_out])
            temporary.write_text(json.dumps(asdict(progress)), encoding="utf-8")
            os.replace(temporary, self._beside / _PROGRESS)
        except OSError as error:
            raise self._explain(error) from None
        self._noted = time.monotonic()
