"""Published checkpoints from disk. They are pickles: read with `weights_only=True`, so that no pickled code is run."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffae.checkpoint import FLOATS
from diffae.errors import CheckpointError

LIGHTNING_CALLBACK = "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"
"""Lightning 1.4 uses this class as a key, so all checkpoints it wrote name it; `_stand_in` takes its place."""

_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"  # of the protocols from 2 on; PyTorch writes no other


@dataclass(frozen=True)
class File:
    """A Lightning checkpoint.

    Attributes:
        path: of the file.
        content: all of it.
        tensors: those of its `state_dict`, by published name.
    """

    path: Path
    content: Mapping[str, Any]
    tensors: dict[str, Tensor]

    @classmethod
    def open(cls, path: str | Path, known: Collection[str]) -> File:
        """Read a file.

        Args:
            path: of the file.
            known: names of tensors; those that end in a dot are what names may begin with.

        Raises:
            CheckpointError: not a file of the published format, or one with a tensor of an unknown name.
        """
        content = read_pickle(path)
        state = content.get("state_dict")
        if not isinstance(state, dict):
            remedy = "it looks like a latent.pkl; give it as stats" if "conds_mean" in content else "get another file"
            raise CheckpointError(f"{path} has no state_dict, so it is not a published checkpoint: {remedy}")
        tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
        for name in tensors:
            if name not in known and not str(name).startswith(tuple(start for start in known if start.endswith("."))):
                begin = ", ".join(f"{start}*" if start.endswith(".") else start for start in known)
                raise CheckpointError(f"{path} has an unknown tensor {name!r}: names there are to be {begin}")
        return cls(Path(path), content, tensors)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings it was trained with, plain values by published name; empty where it does not hold them."""
        settings = self.content.get("hyper_parameters")
        pairs = settings.items() if isinstance(settings, Mapping) else ()
        return {name: value for name, value in pairs if isinstance(value, int | float | str | tuple | list)}

    def under(self, prefix: str, but: str | None = None) -> dict[str, Tensor]:
        """Tensors whose names begin with `prefix` and not with `but`, by the rest of their names."""
        return {
            name.removeprefix(prefix): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(prefix) and not (but and name.startswith(but))
        }

    def require(self, found: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], prefix: str = "") -> None:
        """Check that tensors are exactly those expected.

        Args:
            found: what there is.
            shapes: what there must be, by name.
            prefix: what the names begin with in the file.

        Raises:
            CheckpointError: a tensor is missing, unknown, not of floats, of the wrong shape or not finite; says which.
        """
        for name in sorted(shapes.keys() - found.keys()):
            raise CheckpointError(f"{self.path} lacks tensor {prefix + name!r}: get the whole file again")
        for name in sorted(found.keys() - shapes.keys()):
            rule = "networks of this architecture have none of that name"
            raise CheckpointError(f"{self.path} has an unknown tensor {prefix + name!r}: {rule}")
        for name, tensor in found.items():
            if tuple(tensor.shape) != shapes[name] or not is_plain(tensor):
                what = f"{prefix + name!r} is {tuple(tensor.shape)} of {_kind(tensor)}"
                raise CheckpointError(f"{self.path}: {what}, it must be {shapes[name]} of float32")
            if not bool(torch.isfinite(tensor).all()):
                what = f"{prefix + name!r} has values that are not finite"
                raise CheckpointError(f"{self.path}: {what}, no network computes with them: get another file")


def is_plain(tensor: Tensor) -> bool:
    """Whether it is dense, holds its values, and has a type that networks compute with."""
    return tensor.dtype in FLOATS and tensor.layout == torch.strided and not tensor.is_meta


def _kind(tensor: Tensor) -> str:
    """Its type, or what else is unusual about a tensor."""
    kind = tensor.dtype if tensor.layout == torch.strided else tensor.layout
    return "no values" if tensor.is_meta else str(kind).removeprefix("torch.")


def read_pickle(path: str | Path) -> Mapping[str, Any]:
    """The dict in a pickle that holds tensors and plain values.

    Raises:
        CheckpointError: there is no such file, it is damaged or truncated, or it holds anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: give the path of a published last.ckpt")
    try:
        content = _load(path)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        # "from None", here and below: PyTorch's own words advise to read the file without protection
        rule = "holds more than tensors and plain values, so it is not read"
        if named := re.search(r"GLOBAL (\S+)", str(error)):
            raise CheckpointError(f"{path} {rule}: it names {named[1]}") from None
        raise CheckpointError(f"{path} is damaged, or {rule} ({_reason(error)}): get it again") from None
    except Exception as error:  # a damaged pickle fails in every imaginable way
        rule = "is damaged, truncated or not a checkpoint"
        raise CheckpointError(f"{path} {rule} ({_reason(error)}): get it again") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a published checkpoint: it holds no dict, but {type(content).__name__}")
    return content


def _load(path: Path) -> Any:
    with path.open("rb") as file:
        begin = file.read(len(_ZIP))
    if begin and not begin.startswith((_ZIP, _PICKLE)):
        rule = "it begins neither as a zip nor as a pickle that PyTorch writes"
        raise CheckpointError(f"{path} is not a checkpoint: {rule}; give the path of a published file")
    mapped = begin == _ZIP and _check_zip(path)
    with torch.serialization.safe_globals([(_stand_in, LIGHTNING_CALLBACK)]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks on protocols: what cannot be read is an error anyway
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def _check_zip(path: Path) -> bool:
    """Read a zip through once, for its checksums, which PyTorch ignores.

    Returns:
        Whether its tensors lie there as they are: then they can be mapped, and the optimiser's moments, half of the
        file, take no memory.
    Raises:
        zipfile.BadZipFile: a part is damaged; says which.
    """
    with zipfile.ZipFile(path) as file:
        if (damaged := file.testzip()) is not None:
            raise zipfile.BadZipFile(f"the checksum of its part {damaged} is wrong")
        return all(entry.compress_type == zipfile.ZIP_STORED for entry in file.infolist())


def _reason(error: Exception) -> str:
    """What is wrong with a file, in one line and without PyTorch's advice."""
    words = str(error).rpartition("WeightsUnpickler error:")[2]
    line = next((line.strip() for line in words.splitlines() if line.strip()), "")
    return type(error).__name__ if not line or re.search("weights_only|safe_globals", line) else line


def _stand_in(*_: Any) -> None:
    raise pickle.UnpicklingError(f"GLOBAL {LIGHTNING_CALLBACK} is called, and may only be named")
