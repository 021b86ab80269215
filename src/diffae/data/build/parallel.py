"""Working on the images of a source in several threads, with a progress bar."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from diffae.console import console, progress
from diffae.data.images import ImageSpec
from diffae.data.pack.writer import FORMAT
from diffae.data.sources import Item, Source

Piece = TypeVar("Piece")
Result = TypeVar("Result")

_CHUNK = 16  # images of one piece of work


@dataclass(frozen=True)
class Work:
    """How images are worked on."""

    workers: int | None = None
    """Threads; the number of CPUs if None."""
    progress: bool = False
    """Show a progress bar on stderr."""

    def in_chunks(
        self, work: Callable[[list[Item]], Result], images: Source, what: str, start: int = 0
    ) -> Generator[Result]:
        """Yield work(items) for all images from number `start` on, chunk by chunk, in order.

        Threads suffice: Pillow decodes and scales without holding Python's lock.
        """
        items = images.items(start)
        chunks = iter(lambda: list(islice(items, _CHUNK)), [])
        done, output = start, console(quiet=not self.progress)
        with progress(what, images.count, start=start, output=output) as update:
            for chunk, result in in_order(work, chunks, self.workers):
                yield result
                done += len(chunk)
                update(done)


def in_order(
    work: Callable[[Piece], Result], pieces: Iterable[Piece], workers: int | None = None
) -> Generator[tuple[Piece, Result]]:
    """Yield each piece with work(piece), in order; threads work on a few pieces ahead.

    Args:
        work: called in threads.
        pieces: taken one after another, as they are needed.
        workers: threads; the number of CPUs if None.
    """
    workers = workers or os.cpu_count() or 1
    pieces, pool = iter(pieces), ThreadPoolExecutor(workers)
    pending: deque[tuple[Piece, Future[Result]]] = deque()
    try:
        while True:
            for piece in islice(pieces, 2 * workers - len(pending)):
                pending.append((piece, pool.submit(work, piece)))
            if not pending:
                return
            piece, result = pending.popleft()
            yield piece, result.result()
    finally:
        pool.shutdown(cancel_futures=True)


class ContentKey:
    """SHA-256 of settings and of the fingerprint of all images, or of the first so many.

    Args:
        images: the source.
        spec: what the images are made into.
        about: other facts on which the result depends, as JSON has them.
    """

    def __init__(self, images: Source, spec: ImageSpec, *about: object) -> None:
        self._images = images
        self._settings = json.dumps([FORMAT, spec.facts(), *about]).encode()
        self._restart()

    def _restart(self) -> None:
        self._digest, self._taken = hashlib.sha256(self._settings), 0
        self._entries = self._images.fingerprint()

    def of_first(self, count: int = sys.maxsize) -> str:
        """The key of the first `count` images.

        An archive has one entry in the fingerprint, not one per image, so at least as many images as asked are covered.
        """
        if count < self._taken:
            self._restart()
        for entry in islice(self._entries, count - self._taken):
            self._digest.update(json.dumps(entry).encode())
        self._taken = count
        return self._digest.hexdigest()
