"""Codes of a set of images that fits into memory, as one safetensors file.

Tensors: `z_sem` (n, d), `x_T` and `x_below` (n, c, size, size), `residual` (n,), `calls` (n,), each if there is one;
`names` and `origins`, texts one after another in UTF-8, and `names_end` and `origins_end` (n,), where each ends;
`differences` and `differences_end`, likewise, if they were kept.
Header: `model` (the fingerprint of the model that made them) and `sampling`. Version 1 had the texts in the header.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from diffae import checkpoint, errors, remote
from diffae.config import Sampling, from_dict, to_dict
from diffae.data.formats.metadata import ImageMetadata
from diffae.errors import CheckpointError, ConfigError
from diffae.latent.codes import StoredCodes

FORMAT = "diffae_codes"
TENSORS = {"z_sem": 2, "x_T": 4, "residual": 1, "calls": 1, "x_below": 4}
"""Names of the tensors, and their numbers of dimensions; the first is the image."""
_VERSION = "2"
_TEXTS = ("names", "origins", "differences")
_PART = 1024  # images read at once


def write(path: Path, codes: StoredCodes) -> None:
    """Write codes atomically."""
    tensors = {name: value for name in TENSORS if (value := getattr(codes, name)) is not None}
    tensors |= _from_texts("names", codes.names)
    if codes.differences:
        tensors |= _from_bytes("differences", codes.differences)
    if any(codes.origins):
        tensors |= _from_texts("origins", [origin_to_text(origin) or "" for origin in codes.origins])
    header = {FORMAT: _VERSION, "model": codes.model, "sampling": json.dumps(to_dict(codes.sampling))}
    checkpoint.write_tensors(path, tensors, header)


class CodeFile:
    """A file of codes, read in parts.

    Raises:
        CheckpointError: the file is missing, truncated, or holds something else; or its sampling needs code from
            outside, and `trust_code` is false.
    """

    def __init__(self, path: Path, *, trust_code: bool = False) -> None:
        if not remote.is_file(path):
            raise CheckpointError(f"{path} does not exist: name a codes file made by `diffae encode`")
        self._held = ExitStack()
        self.path, self._here = path, self._held.enter_context(remote.local(path))
        with reading(path), safe_open(self._here, "pt") as file:
            header: Mapping[str, str] = file.metadata() or {}
            if header.get(FORMAT) not in ("1", _VERSION):
                what = "holds no codes: name a codes file made by this version of `diffae encode`"
                raise CheckpointError(f"{path} {what}")
            self._names, self._origins = _texts_of(file, header)
            has = "differences" in file.keys()  # noqa: SIM118
            self._differences = _to_bytes(file, "differences") if has else []
            self._model = header["model"]
            self._sampling = from_dict(Sampling, json.loads(header["sampling"]), trust_code=trust_code)
            self._tensors = [name for name in file.keys() if name.removesuffix("_end") not in _TEXTS]  # noqa: SIM118
            lengths = {file.get_slice(name).get_shape()[0] for name in self._tensors}
            if set(self._tensors) - TENSORS.keys():
                raise ValueError("it has unknown tensors")
            if (
                not {"z_sem", "x_T"} & set(self._tensors)
                or lengths != {len(self._names)}
                or {len(self._origins), len(self._differences)} - {0, len(self._names)}
            ):
                raise ValueError("names and codes differ in number")
        self.count = len(self._names)
        """Images whose codes it holds."""
        self.stochastic = "x_T" in self._tensors
        """Whether there is x_T."""
        facts = self._here.stat()
        self.key = f"{path.resolve()} {facts.st_size} {facts.st_mtime_ns}"
        """Changes when the file is written again."""

    @property
    def parts(self) -> int:
        """Number of parts."""
        return max(-(-self.count // _PART), 1)

    def names(self, number: int) -> list[str]:
        """The names of a part."""
        return self._names[number * _PART : (number + 1) * _PART]

    def read(self, number: int) -> StoredCodes:
        """The codes of a part; `CheckpointError` if they are damaged."""
        rows = slice(number * _PART, (number + 1) * _PART)
        with reading(self.path), safe_open(self._here, "pt") as file:
            tensors = {name: file.get_slice(name)[rows] for name in self._tensors}
        require_codes(self.path, tensors)
        facts = {"origins": self._origins[rows], "differences": self._differences[rows]}
        return StoredCodes(self.names(number), self._model, self._sampling, **tensors, **facts)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what a damaged file of codes raises into a `CheckpointError`."""
    with errors.reading(path, "encode the images again", CheckpointError):
        try:
            yield
        except ConfigError as error:
            raise CheckpointError(f"{path}: {error}") from error


def require_codes(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise `CheckpointError` unless each tensor has the dimensions and the kind of its name, and is finite."""
    with reading(path):
        for name, value in tensors.items():
            if value.dim() != TENSORS[name] or (name != "calls") != value.is_floating_point():
                raise ValueError(f"{name} is {tuple(value.shape)} of {value.dtype}")
            if not bool(torch.isfinite(value).all()):
                raise ValueError(f"{name} is not finite")


def origin_to_text(origin: ImageMetadata | None) -> str | None:
    """Metadata as JSON."""
    return None if origin is None else json.dumps(asdict(origin))


def origin_from_text(text: str | None) -> ImageMetadata | None:
    """Metadata from JSON; `ConfigError` or ValueError where it is none."""
    return from_dict(ImageMetadata, json.loads(text)) if text else None


def _texts_of(file: Any, header: Mapping[str, str]) -> tuple[list[str], Sequence[ImageMetadata | None]]:
    """Names and metadata of the images, of either version."""
    if header[FORMAT] == "1":
        names, origins = json.loads(header["names"]), json.loads(header.get("origins", "[]"))
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("names are not texts")
        return names, tuple(origin and from_dict(ImageMetadata, origin) for origin in origins)
    names = _to_texts(file, "names")
    origins = _to_texts(file, "origins") if "origins" in file.keys() else []  # noqa: SIM118
    return names, tuple(map(origin_from_text, origins))


def _from_texts(name: str, texts: Sequence[str]) -> dict[str, Tensor]:
    return _from_bytes(name, [text.encode("utf-8", "surrogateescape") for text in texts])


def _from_bytes(name: str, encoded: Sequence[bytes]) -> dict[str, Tensor]:
    ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
    flat = torch.frombuffer(bytearray(b"".join(encoded)) or bytearray(1), dtype=torch.uint8)
    return {name: flat[: int(ends[-1]) if len(ends) else 0].clone(), f"{name}_end": torch.from_numpy(ends)}


def _to_texts(file: Any, name: str) -> list[str]:
    return [octets.decode("utf-8", "surrogateescape") for octets in _to_bytes(file, name)]


def _to_bytes(file: Any, name: str) -> list[bytes]:
    flat, ends = file.get_tensor(name).numpy().tobytes(), file.get_tensor(f"{name}_end").tolist()
    if [0, *ends] != sorted([0, *ends]) or (ends or [0])[-1] != len(flat):
        raise ValueError(f"{name} are cut short")
    return [flat[a:b] for a, b in zip([0, *ends], ends, strict=False)]
