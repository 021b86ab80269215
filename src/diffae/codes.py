"""Codes of images as one safetensors file: z_sem, x_T where wanted, and what is needed to decode them again.

Tensors: `z_sem` (n, d), `x_T` (n, c, size, size), `residual` (n,), `calls` (n,), each where there is one.
Metadata, as JSON: `names`, `model` (the fingerprint of the model that made them), `sampling`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from jaxtyping import Float, Int
from torch import Tensor, isfinite

from diffae import checkpoint
from diffae.config import Sampling, from_dict
from diffae.errors import CheckpointError, ConfigError

_FORMAT = "diffae_codes"
_VERSION = "1"
_TENSORS = ("z_sem", "x_T", "residual", "calls")


@dataclass(frozen=True)
class StoredCodes:
    """Codes of n images, in the order of their names."""

    names: list[str]
    """Where each came from: the path in the folder or archive, or the row of the array."""
    model: str
    """`DiffusionAutoencoder.fingerprint()` of the model they belong to."""
    sampling: Sampling
    """How x_T was found, and so how it must be decoded."""
    z_sem: Float[Tensor, "n d"] | None = None
    """Semantic codes; None of a model without an encoder."""
    x_T: Float[Tensor, "n c h w"] | None = None
    """Stochastic codes, where they were asked for."""
    residual: Float[Tensor, " n"] | None = None
    """Residual of exact inversion (see `diffae.Code`)."""
    calls: Int[Tensor, " n"] | None = None
    """Network calls spent on each x_T."""

    def check_model(self, fingerprint: str, path: Path) -> None:
        """Raise `CheckpointError` unless the model of this fingerprint made these codes."""
        if fingerprint != self.model:
            whose = f"belongs to a model with fingerprint {self.model}, this one's is {fingerprint}"
            raise CheckpointError(f"{path} {whose}: decode it with the model that encoded it, or encode again")


def save_codes(path: str | Path, codes: StoredCodes) -> None:
    """Write codes, whole or not at all.

    Raises:
        TrainingError: the disk is full or the folder cannot be written.
    """
    tensors = {name: value for name in _TENSORS if (value := getattr(codes, name)) is not None}
    texts = {
        _FORMAT: _VERSION,
        "names": json.dumps(codes.names),
        "model": codes.model,
        "sampling": json.dumps(asdict(codes.sampling)),
    }
    checkpoint.write_tensors(Path(path), tensors, texts)


def load_codes(path: str | Path) -> StoredCodes:
    """Read codes written by `save_codes`.

    Raises:
        CheckpointError: the file is missing, truncated, or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: name a codes file made by `diffae encode`")
    tensors, texts = checkpoint.read_tensors(path)
    if texts.get(_FORMAT) != _VERSION:
        raise CheckpointError(f"{path} holds no codes: name a codes file made by this version of `diffae encode`")
    try:
        names, sampling = json.loads(texts["names"]), from_dict(Sampling, json.loads(texts["sampling"]))
        codes = StoredCodes(names, texts["model"], sampling, **tensors)
    except (KeyError, ValueError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): encode the images again") from error
    if not {"z_sem", "x_T"} & tensors.keys() or any(len(value) != len(names) for value in tensors.values()):
        raise CheckpointError(f"{path} is damaged (names and codes differ in number): encode the images again")
    for name, value in tensors.items():
        if not bool(isfinite(value).all()):
            raise CheckpointError(f"{path} is damaged ({name} is not finite): encode the images again")
    return codes
