"""`diffae encode` and `diffae decode`: images to codes in one file, and back."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes, Positional, arg

from diffae.cli import common, models
from diffae.cli.options import RunArgument, SamplingOptions
from diffae.cli.terminal import counted, say
from diffae.errors import ConfigError, DataError

if TYPE_CHECKING:
    from diffae.config import Sampling
    from diffae.model import DiffusionAutoencoder


@dataclass(frozen=True)
class Encode:
    """Encode images to a file of codes."""

    model: RunArgument
    photos: Annotated[Path, Positional, arg(metavar="PHOTOS")]
    """Images: a folder, .zip, .npy, .npz, or one image file."""
    out: Path
    """File to write, .safetensors."""
    stochastic: bool = False
    """Encode x_T too, so that `diffae decode` reconstructs the images exactly."""
    sampling: OmitArgPrefixes[SamplingOptions] = field(default_factory=SamplingOptions)

    def run(self) -> int:
        """Write the codes."""
        from diffae.checkpoint import WEIGHTS
        from diffae.data.build import check_space
        from diffae.latent.codes import StoredCodes, save_codes

        sampling = self.sampling.sampling()
        if self.out.suffix != ".safetensors":
            raise DataError(f"cannot write {self.out.name}: the suffix must be .safetensors; rename it")
        common.check_outputs([self.out], [Path(self.model) / WEIGHTS])
        model = models.open_model(self.model)
        if not self.stochastic and not model.config.has_encoder:
            raise ConfigError("z_sem_channels is 0: this model has no encoder; add --stochastic to encode x_T alone")
        photos = models.Photos(self.photos, model)
        check_space(self.out, len(photos) * _bytes_per_image(model, sampling if self.stochastic else None))
        code = photos.encode(sampling if self.stochastic else None)
        parts = {"origins": photos.origins(), **vars(code)}
        save_codes(self.out, StoredCodes(photos.names_read, model.fingerprint(), sampling, **parts))
        common.warn_skipped(photos.skipped)
        common.warn_residuals(code.residual, sampling)
        what = " and ".join(name for name in ("z_sem", "x_T") if getattr(code, name) is not None)
        say(f"{what} of {counted(len(code))} written to {self.out}.")
        return 0


@dataclass(frozen=True)
class Decode:
    """Decode a file of codes to images.

    The sampling settings are those the codes were made with.
    """

    model: RunArgument
    codes: Annotated[Path, Positional, arg(metavar="CODES")]
    """File made by `diffae encode`."""
    out: Path
    """Folder for the images."""
    seed: int = 0
    """Seed of x_T for codes that have none."""

    def run(self) -> int:
        """Write the images."""
        from diffae.latent.codes import Code, load_codes

        stored = load_codes(self.codes)
        model = models.open_model(self.model)
        stored.check_model(model.fingerprint(), self.codes)
        origins = stored.origins or [None] * len(stored.names)
        names = common.output_names(stored.names, "-decoded")
        paths = [
            self.out / f"{name}{common.suffix_of(model, metadata)}"
            for name, metadata in zip(names, origins, strict=True)
        ]
        common.check_outputs(paths, [self.codes])
        code = Code(stored.z_sem, stored.x_T, x_below=stored.x_below)
        batches = models.decode_all(model, code, stored.sampling, models.seeded(self.seed))
        images = (image[None] for batch in batches for image in batch)
        for path, image, metadata in zip(paths, images, origins, strict=True):
            common.write_image(path, image, model, metadata)
        if stored.x_T is None:
            say(f"The codes hold no x_T: it was drawn with --seed {self.seed}, so details are invented.")
        say(f"{counted(len(paths))} written to {self.out}.")
        return 0


def _bytes_per_image(model: DiffusionAutoencoder, sampling: Sampling | None) -> int:
    """Bytes of z_sem, and with `sampling` of the stochastic code."""
    z_sem, states = 4 * model.config.z_sem_channels, 0
    if sampling is not None:
        states = math.prod(model.config.latent_shape) * (8 if sampling.precision == "float64" else 4)
    return z_sem + states * (2 if sampling is not None and sampling.inversion == "bdia" else 1)
