"""File locks: on folders of packs and caches, which wait, and on runs, which refuse."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from diffae.errors import CheckpointError, DataError


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


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Hold a folder, which exists, for this process.

    Raises:
        CheckpointError: another process holds it; says which.
    """
    lock, holder = FileLock(folder / ".lock", timeout=0), folder / ".holder"
    try:
        lock.acquire()
    except Timeout as error:
        who = holder.read_text(encoding="utf-8") if holder.is_file() else "another process"
        raise CheckpointError(f"{folder} is in use by {who}: wait until it ends, or stop it") from error
    except OSError:  # a file system without locks
        yield
        return
    try:
        with suppress(OSError):
            holder.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
