"""Working on the images of a source in several threads, with a progress bar."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from diffae.console import console, progress
from diffae.data.images import ImageSpec
from diffae.data.pack.writer import FORMAT
from diffae.data.sources import Item, Source

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
        workers = self.workers or os.cpu_count() or 1
        items, pool = images.items(start), ThreadPoolExecutor(workers)
        pending: deque[tuple[int, Future[Result]]] = deque()
        done, output = start, console(quiet=not self.progress)
        with progress(what, images.count, start=start, output=output) as update:
            try:
                while True:
                    while len(pending) < 2 * workers and (chunk := list(islice(items, _CHUNK))):
                        pending.append((len(chunk), pool.submit(work, chunk)))
                    if not pending:
                        return
                    count, result = pending.popleft()
                    yield result.result()
                    done += count
                    update(done)
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
