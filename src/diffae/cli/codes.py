"""`diffae encode` and `diffae decode`: images to codes in one file, and back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes, Positional, arg

from diffae.cli.common import (
    RunArgument,
    SamplingOptions,
    back_suffix,
    images,
    keep_inputs,
    open_model,
    output_names,
    progress,
    read_images,
    say,
    seeded,
    tell_residuals,
    tell_skipped,
    write_back,
)
from diffae.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor

    from diffae.config import Sampling
    from diffae.data.images import Origin
    from diffae.model import Code, DiffusionAutoencoder

_MANY = (".zip", ".npy", ".npz")
_BATCH = 64


@dataclass(frozen=True)
class Encode:
    """Encode images: z_sem of each, and with --stochastic x_T, into one file."""

    model: RunArgument
    photos: Annotated[Path, Positional, arg(metavar="PHOTOS")]
    """Images: a folder, .zip, .npy, .npz, or one image file."""
    out: Path
    """File to write, .safetensors."""
    stochastic: bool = False
    """Encode x_T too: with it `diffae decode` returns to the image, to the last detail."""
    sampling: OmitArgPrefixes[SamplingOptions] = field(default_factory=SamplingOptions)

    def run(self) -> int:
        """Write the codes."""
        from diffae.checkpoint import WEIGHTS
        from diffae.data.build import check_space
        from diffae.latent.codes import StoredCodes, save_codes

        sampling = self.sampling.sampling()
        if self.out.suffix != ".safetensors":
            raise DataError(f"cannot write {self.out.name}: the suffix must be .safetensors; rename it")
        keep_inputs([self.out], [Path(self.model) / WEIGHTS])
        model = open_model(self.model)
        if not self.stochastic and not model.config.network.has_encoder:
            raise ConfigError("z_sem_channels is 0: this model has no encoder; add --stochastic to encode x_T alone")
        photos = Photos(self.photos, model)
        check_space(self.out, len(photos) * _bytes_per_image(model, sampling if self.stochastic else None))
        code = self._encode(model, photos, sampling)
        names = photos.names_read
        parts = {"origins": photos.origins(), **vars(code)}
        save_codes(self.out, StoredCodes(names, model.fingerprint(), sampling, **parts))
        tell_skipped(photos.skipped)
        tell_residuals(code.residual, sampling)
        what = "z_sem and x_T" if code.z_sem is not None and code.x_T is not None else "z_sem"
        say(f"{what if code.z_sem is not None else 'x_T'} of {images(len(names))} written to {self.out}.")
        return 0

    def _encode(self, model: DiffusionAutoencoder, photos: Photos, sampling: Sampling) -> Code:
        from diffae.latent.codes import Code

        parts: list[Code] = []
        with progress("encoding", len(photos)) as done:
            for seen, x in photos.batches():
                code = model.encode(x, sampling) if self.stochastic else Code(model.encode_semantic(x))
                parts.append(code.to("cpu"))
                done(seen)
        if not parts:
            raise DataError(f"images {self.photos}: none can be used, {photos.skipped[0][1]}")
        return Code.join(parts)


@dataclass(frozen=True)
class Decode:
    """Decode a file of codes into images, with the sampling they were encoded with."""

    model: RunArgument
    codes: Annotated[Path, Positional, arg(metavar="CODES")]
    """File made by `diffae encode`."""
    out: Path
    """Folder for the images."""
    seed: int = 0
    """Of the x_T drawn for codes that have none."""

    def run(self) -> int:
        """Write the images."""
        from diffae.latent.codes import load_codes
        from diffae.model import Code

        stored = load_codes(self.codes)
        model = open_model(self.model)
        stored.check_model(model.fingerprint(), self.codes)
        generator = seeded(self.seed)
        origins = stored.origins or [None] * len(stored.names)
        suffixes = [back_suffix(model, origin) for origin in origins]
        names = output_names(stored.names, "-decoded")
        paths = [self.out / f"{name}{suffix}" for name, suffix in zip(names, suffixes, strict=True)]
        keep_inputs(paths, [self.codes])
        with progress("decoding", len(paths)) as done:
            for start in range(0, len(paths), _BATCH):
                code = Code(stored.z_sem, stored.x_T, x_below=stored.x_below)[start : start + _BATCH]
                x = model.decode(code, sampling=stored.sampling, generator=generator)
                for index, image in enumerate(x, start):
                    write_back(paths[index], image[None], model, origins[index])
                done(start + len(x))
        if stored.x_T is None:
            say(f"The codes hold no x_T: it was drawn with --seed {self.seed}, so details are invented.")
        say(f"{images(len(paths))} written to {self.out}.")
        return 0


def _bytes_per_image(model: DiffusionAutoencoder, sampling: Sampling | None) -> int:
    """Of z_sem, and with `sampling` of the stochastic code."""
    z_sem, states = 4 * model.config.network.z_sem_channels, 0
    if sampling is not None:
        states = math.prod(model.image_shape) * (8 if sampling.precision == "float64" else 4)
    return z_sem + states * (2 if sampling is not None and sampling.inversion == "pair" else 1)


class Photos:
    """The images of a folder, archive, array or single file; those that cannot be read are noted and left out."""

    def __init__(self, path: Path, model: DiffusionAutoencoder) -> None:
        from diffae.data.formats.stacks import is_stack
        from diffae.data.images import SUFFIXES
        from diffae.data.sources.files import open_source
        from diffae.data.sources.streams import open_listed

        self.path, self.model = path, model
        channels, suffix = model.image_shape[0], path.suffix.lower()
        several = suffix in _MANY or (is_stack(path) and len(open_source(path, channels).names) > 1)
        self.source = None if path.is_file() and suffix in SUFFIXES and not several else open_listed(path, channels)
        self.names_read: list[str] = []
        self.skipped: list[tuple[str, str]] = []

    def __len__(self) -> int:
        return 1 if self.source is None else len(self.source.names)

    def origins(self) -> list[Origin | None]:
        """What the files of the images that were read say beside the samples."""
        from diffae.data.images import Origin, origin_of

        paths = (self.path if self.source is None else self.path / name for name in self.names_read)
        found = map(origin_of, paths)
        # what says nothing beyond the model's own type is left out: there may be very many images
        dtype = self.model.config.input.dtype
        return [None if origin and origin == Origin("png", dtype, origin.shape) else origin for origin in found]

    def batches(self) -> Iterator[tuple[int, Tensor]]:
        """How many images were looked at so far, and those of the latest batch, in [-1, 1]."""
        import torch

        for start in range(0, len(self), _BATCH):
            rows = range(start, min(start + _BATCH, len(self)))
            batch = [x for index in rows if (x := self._read(index)) is not None]
            if batch:
                yield rows.stop, torch.cat(batch)

    def _read(self, index: int) -> Tensor | None:
        from diffae.data.images import ImageSpec, read_ready, to_tensor

        source = self.source
        if source is None:
            self.names_read.append(self.path.name)
            return read_images([self.path], self.model)
        spec = ImageSpec.of_model(self.model.config)
        name = source.names[index]
        try:
            x = to_tensor(read_ready(lambda wanted: source.read(index, wanted), spec))
        except DataError as error:
            self.skipped.append((name, str(error)))
            return None
        self.names_read.append(name)
        return x
