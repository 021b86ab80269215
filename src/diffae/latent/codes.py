"""Codes of images in memory: z_sem, optionally x_T, and what decoding needs. On disk: `code_file`, `code_folder`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffae.checkpoint import Fingerprint
from diffae.data.formats.metadata import ImageMetadata
from diffae.diffusion.interpolation import lerp, slerp
from diffae.diffusion.settings import Sampling
from diffae.errors import CheckpointError, ConfigError, DataError

Generators = torch.Generator | Sequence[torch.Generator] | None
"""Source of random numbers for a batch, on the CPU, or one for each image; None is PyTorch's own."""


def draw(count: int, shape: tuple[int, ...], generator: Generators) -> Float[Tensor, "..."]:
    """Samples of N(0, I), (count, *shape).

    Raises:
        ConfigError: another number of generators than of images.
    """
    if generator is None or isinstance(generator, torch.Generator):
        return torch.randn((count, *shape), generator=generator)
    if len(generator) != count:
        raise ConfigError(f"generator is a list of {len(generator)}: must have one for each of {count} images")
    return torch.cat([torch.randn((1, *shape), generator=one) for one in generator])


@dataclass(frozen=True, repr=False)
class Code:
    """The semantic and the stochastic code of a batch of images.

    Attributes:
        z_sem: (b, d); None for a model without an encoder.
        x_T: (b, c, size, size); None where only z_sem was asked for.
        residual: (b,) of exact inversion, the largest residual over the steps: root mean square, images in [-1, 1].
            None for other inversions.
        calls: (b,) network calls spent on each image's x_T.
        x_below: as x_T, the state one step below it: the other half of BDIA's stochastic code.
    """

    z_sem: Float[Tensor, "b d"] | None
    x_T: Float[Tensor, "b c h w"] | None = None
    residual: Float[Tensor, " b"] | None = None
    calls: Int[Tensor, " b"] | None = None
    x_below: Float[Tensor, "b c h w"] | None = None

    def __len__(self) -> int:
        first = self.z_sem if self.z_sem is not None else self.x_T
        return 0 if first is None else len(first)

    def __repr__(self) -> str:
        parts = [
            f"{name} {tuple(part.shape)}"
            for name in ("z_sem", "x_T", "x_below")
            if (part := getattr(self, name)) is not None
        ]
        if self.residual is not None:
            parts.append(f"residual up to {self.residual.max().item():.1e}")
        images = "1 image" if len(self) == 1 else f"{len(self)} images"
        return f"Code({', '.join([images, *parts])})"

    def __getitem__(self, rows: int | slice | Tensor) -> Code:
        """The codes of some images, or of one; the batch dimension is kept."""
        if isinstance(rows, int):
            rows = slice(rows, rows + 1 or None)
        columns = (getattr(self, field.name) for field in fields(self))
        return Code(*(None if column is None else column[rows] for column in columns))

    def to(self, device: str | torch.device) -> Code:
        """The code on a device."""
        columns = (getattr(self, field.name) for field in fields(self))
        return Code(*(None if column is None else column.to(device) for column in columns))

    def complete(self, shape: tuple[int, int, int], d: int, generator: Generators = None) -> Code:
        """The code, ready to be decoded; x_T is drawn from N(0, I) where it is None.

        Args:
            shape: (c, h, w) of one x_T of the model.
            d: size of the model's z_sem; 0 without an encoder.
            generator: source of random x_T.

        Raises:
            DataError: a part is missing or superfluous, of another shape, or not finite.
        """
        z_sem, x_T = self.z_sem, self.x_T
        if (z_sem is None) == (d > 0):
            raise DataError(f"z_sem is {'absent' if d else 'given'}: this model decodes with z_sem of size {d}")
        if z_sem is not None and (z_sem.dim() != 2 or z_sem.shape[1] != d):
            raise DataError(f"z_sem has shape {tuple(z_sem.shape)}: this model's is (images, {d})")
        if x_T is None:
            if z_sem is None:
                raise DataError("x_T is absent: give x_T, whose first dimension says how many images to decode")
            x_T = draw(len(z_sem), shape, generator)
        states = {"x_T": x_T, "x_below": self.x_below}
        for name, value in states.items():
            if value is not None and tuple(value.shape[1:]) != shape:
                raise DataError(f"{name} has shape {tuple(value.shape)}: this model's is (images, {shape})")
        for name, value in {"z_sem": z_sem, **states}.items():
            if value is not None and (len(value) != len(x_T) or not bool(torch.isfinite(value).all())):
                raise DataError(f"{name} of {len(value)} images: must be finite, and one for each of {len(x_T)} x_T")
        return replace(self, x_T=x_T)

    @classmethod
    def join(cls, codes: Sequence[Code]) -> Code:
        """Concatenate codes; the parts are those that the first one has."""
        columns = ([getattr(code, field.name) for code in codes] for field in fields(cls))
        return cls(*(None if column[0] is None else torch.cat(column) for column in columns))

    @classmethod
    def between(cls, a: Code, b: Code, frames: int) -> Code:
        """Codes from a to b (one image each), both included: lerp on z_sem, slerp on x_T (Section 5.2).

        Raises:
            ConfigError: fewer than 2 frames.
            DataError: codes of more than one image, or without x_T.
        """
        if frames < 2:
            raise ConfigError(f"frames is {frames}: must be at least 2, the two images themselves")
        if len(a) != 1 or len(b) != 1 or a.x_T is None or b.x_T is None:
            raise DataError(f"codes of {len(a)} and {len(b)} images: interpolation takes one image each, with its x_T")
        weight = torch.linspace(0, 1, frames)
        z_sem = None if a.z_sem is None or b.z_sem is None else lerp(a.z_sem, b.z_sem, weight)
        if a.x_below is None or b.x_below is None:
            return cls(z_sem, slerp(a.x_T, b.x_T, weight))
        ends = torch.cat([a.x_T, a.x_below], dim=1), torch.cat([b.x_T, b.x_below], dim=1)
        x_T, x_below = slerp(*ends, weight).chunk(2, dim=1)  # one arc for both, so that they stay consecutive states
        return cls(z_sem, x_T, x_below=x_below)


@dataclass(frozen=True)
class StoredCodes:
    """Codes of n images, in the order of their names."""

    names: list[str]
    """The path in the folder or archive, or the row of the array."""
    model: str
    """`DiffusionAutoencoder.fingerprint()` of the model they belong to."""
    sampling: Sampling
    """How x_T was found, and so how it must be decoded."""
    z_sem: Float[Tensor, "n d"] | None = None
    """Semantic codes; None for a model without an encoder."""
    x_T: Float[Tensor, "n c h w"] | None = None
    """Stochastic codes, if they were encoded."""
    residual: Float[Tensor, " n"] | None = None
    """Residual of exact inversion (see `diffae.Code`)."""
    calls: Int[Tensor, " n"] | None = None
    """Network calls spent on each x_T."""
    x_below: Float[Tensor, "n c h w"] | None = None
    """The state below x_T, of BDIA."""
    origins: Sequence[ImageMetadata | None] = ()
    """Metadata of each image's file, with which decoded images are written; empty if unknown."""
    differences: Sequence[bytes] = ()
    """What decoding leaves of each image (`diffae.latent.differences`); empty if it was not kept."""

    def __len__(self) -> int:
        return len(self.names)

    def check_model(self, fingerprint: Fingerprint, path: Path) -> None:
        """Raise `CheckpointError` unless the model of this fingerprint made these codes."""
        if not fingerprint.matches(self.model):
            whose = f"belongs to a model with fingerprint {self.model}, this one's is {fingerprint}"
            raise CheckpointError(f"{path} {whose}: decode it with the model that encoded it, or encode again")

    @property
    def code(self) -> Code:
        """What decoding takes."""
        return Code(self.z_sem, self.x_T, x_below=self.x_below)

    @classmethod
    def join(cls, parts: Sequence[StoredCodes]) -> StoredCodes:
        """The codes of all parts, of one model and one sampling."""
        parts = [part for part in parts if len(part)] or [*parts]
        code = Code.join([Code(*(getattr(part, field.name) for field in fields(Code))) for part in parts])
        names = [name for part in parts for name in part.names]
        origins = [origin for part in parts for origin in part.origins or [None] * len(part)]
        differences = tuple(difference for part in parts for difference in part.differences)
        facts = {"origins": origins if any(origins) else (), "differences": differences}
        return cls(names, parts[0].model, parts[0].sampling, **vars(code), **facts)


def save_codes(path: str | Path, codes: StoredCodes) -> None:
    """Write codes atomically to one file; see `diffae.latent.code_file`.

    Raises:
        TrainingError: the disk is full or the folder cannot be written.
    """
    from diffae.latent.code_file import write

    write(Path(path), codes)


def load_codes(path: str | Path, *, trust_code: bool = False) -> StoredCodes:
    """Read all codes of a file or of a folder written by `diffae encode` into memory.

    Args:
        path: the file or folder; see `diffae.latent.code_folder.open_codes` for reading it in parts.
        trust_code: whether a solver or an inversion from outside this package may be imported.

    Raises:
        CheckpointError: the file is missing, truncated, or holds something else; or its sampling needs code from
            outside, and `trust_code` is false.
    """
    from diffae.latent.code_folder import open_codes

    stored = open_codes(path, trust_code=trust_code)
    return StoredCodes.join([stored.read(number) for number in range(stored.parts)])
