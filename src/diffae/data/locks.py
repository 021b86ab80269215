"""The one file lock: whoever writes packs or caches in a folder holds it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock

from diffae.errors import DataError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one thread of one process at a time write in a folder, which is made if needed.

    Raises:
        DataError: the folder cannot be made, written or locked.
    """
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(folder / ".lock"))
        except OSError as error:
            reason = error.strerror or error
            raise DataError(f"folder {folder}: cannot be used ({reason}); choose another") from None
        yield
