"""File locks: on folders of packs and caches, which wait, and on runs and reports, which refuse."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from diffae.errors import CheckpointError, DataError

_log = logging.getLogger(__name__)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one thread of one process at a time write in a folder, which is made if needed.

    Others wait, and log whom they wait for.

    Raises:
        DataError: the folder cannot be made, written or locked.
    """
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _log.warning("waiting for %s, which is writing in %s", _holder(folder), folder)
            lock.acquire()
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"folder {folder}: cannot be used ({reason}); choose another") from None
    with _held(folder, lock):
        yield


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Hold a folder, which exists, for this process.

    Raises:
        CheckpointError: another process holds it; says which.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise CheckpointError(f"{folder} is in use by {_holder(folder)}: wait until it ends, or stop it") from error
    except OSError:  # a file system without locks
        yield
        return
    with _held(folder, lock):
        yield


@contextmanager
def _held(folder: Path, lock: FileLock) -> Iterator[None]:
    """Say in a file who holds the lock, and release it at the end."""
    holder = folder / ".holder"
    try:
        with suppress(OSError):
            holder.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _holder(folder: Path) -> str:
    try:
        return (folder / ".holder").read_text(encoding="utf-8") or "another process"
    except (OSError, ValueError):
        return "another process"
