"""Files at addresses such as s3://bucket/folder, gs://... and memory://..., through fsspec.

Such an address is a `Path` as others are: it can be joined, and `checkpoint.written_beside` writes there. Credentials
come from the environment or the files of the service, as its fsspec package reads them; an address must not hold any.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffae.errors import ConfigError, DataError, DiffaeError

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}(.+)")  # a Path folds the slashes; one letter is a drive of Windows
_OTHERS = ("hf", "file")
"""Schemes that are read otherwise, or are local."""


def is_remote(path: Path) -> bool:
    """Whether a path is an address; asks no server."""
    found = _ADDRESS.fullmatch(path.as_posix())
    return found is not None and found[1] not in _OTHERS


def shown(path: Path) -> str:
    """A path or an address as the user writes it."""
    found = _ADDRESS.fullmatch(path.as_posix()) if is_remote(path) else None
    return f"{found[1]}://{found[2]}" if found else str(path)


def opened(path: Path) -> tuple[Any, str]:
    """The file system of an address, and the path in it.

    Raises:
        ConfigError: the package of the service is not installed.
        DataError: the address holds credentials, or its scheme is unknown.
    """
    address = shown(path)
    if "@" in address.split("/")[2] or "?" in address:
        scheme = address.partition(":")[0]
        rule = "an address must have no user, password, key or `?`; set credentials in the environment"
        raise DataError(f"address {scheme}://...: {rule}")
    import fsspec

    try:
        return fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise ConfigError(f"{address}: {error}; pip install it") from None
    except ValueError as error:
        raise DataError(f"{address}: {error}; check the address") from None


@contextmanager
def explained(path: Path, what: str) -> Iterator[None]:
    """Turn what services raise into a `DataError` that says that `path` cannot be `what`."""
    try:
        yield
    except (DiffaeError, GeneratorExit):
        raise
    except Exception as error:  # of many kinds, and many lines
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{shown(path)}: cannot be {what} ({reason}); check the address and your access") from None


def is_file(path: Path) -> bool:
    """Whether there is a file, here or at an address."""
    return kind_of(path) == "file" if is_remote(path) else path.is_file()


def is_dir(path: Path) -> bool:
    """Whether there is a folder, here or at an address."""
    return kind_of(path) == "directory" if is_remote(path) else path.is_dir()


def kind_of(path: Path) -> str | None:
    """What is at an address: "file", "directory" or None."""
    files, name = opened(path)
    with explained(path, "read"):
        files.invalidate_cache()  # another process may have written meanwhile
        try:
            return files.info(name)["type"]
        except FileNotFoundError:
            return None


def entries(folder: Path) -> list[Path]:
    """What is directly in a folder, here or at an address; nothing where there is none."""
    if not is_remote(folder):
        return list(folder.iterdir()) if folder.is_dir() else []
    files, name = opened(folder)
    with explained(folder, "read"):
        files.invalidate_cache()
        try:
            return [folder / Path(found).name for found in files.ls(name, detail=False)]
        except FileNotFoundError:
            return []


def remove(path: Path) -> None:
    """Remove a file, if it is there."""
    if not is_remote(path):
        path.unlink(missing_ok=True)
    elif is_file(path):
        files, name = opened(path)
        with explained(path, "removed"):
            files.rm_file(name)


@contextmanager
def uploaded(path: Path) -> Iterator[Path]:
    """A local path to write, which is then sent to an address; services show a file once it is there as a whole."""
    files, name = opened(path)
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / path.name
        local.touch()
        yield local
        with explained(path, "written"):
            files.put_file(str(local), name)


@contextmanager
def reading(path: Path) -> Iterator[Any]:
    """An open binary file; at an address only what is asked for is fetched."""
    if not is_remote(path):
        with path.open("rb") as file:
            yield file
        return
    files, name = opened(path)
    with explained(path, "read"):
        file = files.open(name, "rb")
    with file:
        yield file


@contextmanager
def local(path: Path) -> Iterator[Path]:
    """A local path to read: the path itself, or for as long as it is needed a copy of what is at the address."""
    if not is_remote(path):
        yield path
        return
    files, name = opened(path)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        with explained(path, "read"):
            files.get_file(name, str(copy))
        yield copy
