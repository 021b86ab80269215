"""Image files at addresses of fsspec, such as s3://bucket/folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt

from diffae.data.formats.base import check_limit
from diffae.data.images import SUFFIXES, ImageSpec, decode_image
from diffae.data.sources.base import ListedSource
from diffae.data.sources.files import is_shown
from diffae.errors import DataError
from diffae.remote import explained, is_remote, opened, shown

_STAMPS = ("ETag", "etag", "md5Hash", "LastModified", "mtime", "created")


def find(path: Path, channels: int) -> RemoteSource | None:
    """The images at an address."""
    return RemoteSource(path) if is_remote(path) else None


class RemoteSource(ListedSource):
    """Image files below an address, or one of them. Each is read when it is needed, and nothing is stored.

    Raises:
        DataError: nothing there, no images, or no access.
        ConfigError: the package of the service is not installed.
    """

    def __init__(self, path: Path) -> None:
        self._files, root = opened(path)
        with explained(path, "read"):
            found: dict[str, Mapping[str, Any]] = self._files.find(root, detail=True)
        below = {(name[len(root) :] if name != root else name.rpartition("/")[2]).strip("/"): name for name in found}
        names = sorted(name for name in below if _is_image(name))
        if not names:
            raise DataError(f"images {shown(path)}: there is no {', '.join(SUFFIXES)} file; check the address")
        super().__init__(path, names)
        self._places = {name: below[name] for name in names}
        self._facts = {name: found[below[name]] for name in names}

    def read(self, index: int, spec: ImageSpec) -> UInt[np.ndarray, "h w c"]:
        name = self.names[index]
        check_limit(self._facts[name].get("size") or 0, "bytes")
        with explained(self.path / name, "read"):
            data = self._files.cat_file(self._places[name])
        return decode_image(data, name, spec)

    def fingerprint(self) -> Iterator[tuple]:
        """Name and size of each file, and what the service says of its content or time."""
        for name, facts in self._facts.items():
            yield name, facts.get("size"), next((str(facts[key]) for key in _STAMPS if key in facts), "")


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and is_shown(name)
