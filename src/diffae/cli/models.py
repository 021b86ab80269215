"""Models and images given to commands, and codes between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffae.cli import common
from diffae.cli.common import cache_folder
from diffae.cli.terminal import warn
from diffae.console import console, progress
from diffae.distributed import in_turns, is_main, processes, world_size
from diffae.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np
    from torch import Generator, Tensor

    from diffae.config import Sampling
    from diffae.data.images import ImageMetadata
    from diffae.data.pack import Pack
    from diffae.latent.codes import Code
    from diffae.model import DiffusionAutoencoder

BATCH = 64
"""Images encoded or decoded at once."""
CACHE = "cache"
"""Folder in a run for what can be made again, such as z_sem of its training images."""


def open_model(run: str, *, z_sem_for: str = "") -> DiffusionAutoencoder:
    """The model of a run folder or Hub id, on the best device.

    Args:
        run: folder or Hub id.
        z_sem_for: what z_sem is needed for, where the model must have an encoder.

    Raises:
        CheckpointError: no such run, or damaged files.
        ConfigError: the model has no encoder.
    """
    from diffae.model import DiffusionAutoencoder

    if world_size() > 1:
        processes()  # gives each process its device
    model = DiffusionAutoencoder.from_pretrained(run, trust_code=common.trust_code)
    if z_sem_for and not model.config.has_encoder:
        raise ConfigError(f"z_sem_channels is 0: this model has no z_sem {z_sem_for}")
    return model


def parameter_count(model: DiffusionAutoencoder) -> int:
    """Number of parameters of decoder and encoder."""
    return sum(parameter.numel() for parameter in model.parameters())


def read_images(paths: Sequence[Path], model: DiffusionAutoencoder) -> Tensor:
    """Image files as a batch in [-1, 1], prepared for the model.

    Raises:
        DataError: an image that cannot be used, or none.
    """
    from diffae.data.images import as_batch

    if not paths:
        raise DataError("no images given, at least one is needed; name image files after the run folder")
    channels, size, _ = model.image_shape
    return as_batch(list(paths), size, channels, **preparation(model))


def preparation(model: DiffusionAutoencoder) -> dict[str, Any]:
    """Crop, background and window of the model's images."""
    given = model.config.input
    return {"crop": given.crop, "background": given.background, "window": given.window}


class Photos:
    """The images of a folder, archive, array or single file, prepared for a model; unreadable ones are left out."""

    def __init__(self, path: Path, model: DiffusionAutoencoder) -> None:
        from diffae.data.formats.stacks import is_stack
        from diffae.data.images import SUFFIXES
        from diffae.data.sources import open_listed

        self.path, self.model = path, model
        channels, suffix = model.image_shape[0], path.suffix.lower()
        several = suffix in (".zip", ".npy", ".npz") or (is_stack(path) and len(open_listed(path, channels).names) > 1)
        self.source = None if path.is_file() and suffix in SUFFIXES and not several else open_listed(path, channels)
        self.names_read: list[str] = []
        self.skipped: list[tuple[str, str]] = []

    def __len__(self) -> int:
        return 1 if self.source is None else len(self.source.names)

    def origins(self) -> list[ImageMetadata | None]:
        """Metadata of the images that were read; None where it says no more than the model's own type."""
        from diffae.data.images import ImageMetadata, metadata_of

        paths = (self.path if self.source is None else self.path / name for name in self.names_read)
        dtype = self.model.config.input.dtype
        found = map(metadata_of, paths)
        return [
            None if metadata and metadata == ImageMetadata("png", dtype, metadata.shape) else metadata
            for metadata in found
        ]

    def encode(self, sampling: Sampling | None = None) -> Code:
        """z_sem of all images, and with `sampling` x_T, on the CPU, with a progress bar.

        Raises:
            DataError: none of the images can be used.
        """
        from diffae.latent.codes import Code

        model, parts = self.model, []
        with progress("encoding", len(self)) as done:
            for seen, x in self._batches():
                code = Code(model.encode_semantic(x)) if sampling is None else model.encode(x, sampling)
                parts.append(code.to("cpu"))
                done(seen)
        if not parts:
            raise DataError(f"images {self.path}: none can be used, {self.skipped[0][1]}")
        return Code.join(parts)

    def _batches(self) -> Iterator[tuple[int, Tensor]]:
        """Yield the number of images visited so far, and those of the latest batch, in [-1, 1]."""
        import torch

        for start in range(0, len(self), BATCH):
            rows = range(start, min(start + BATCH, len(self)))
            batch = [x for index in rows if (x := self._read(index)) is not None]
            if batch:
                yield rows.stop, torch.cat(batch)

    def _read(self, index: int) -> Tensor | None:
        from diffae.data.images import ImageSpec, read_ready, to_tensor

        source = self.source
        if source is None:
            self.names_read.append(self.path.name)
            return read_images([self.path], self.model)
        name, spec = source.names[index], ImageSpec.of_model(self.model.config)
        try:
            x = to_tensor(read_ready(lambda wanted: source.read(index, wanted), spec))
        except DataError as error:
            self.skipped.append((name, str(error)))
            return None
        self.names_read.append(name)
        return x


def decode_all(
    model: DiffusionAutoencoder, code: Code, sampling: Sampling, generator: Generator | None = None
) -> Iterator[Tensor]:
    """Yield images (b, c, h, w) of codes in batches, on the CPU, with a progress bar; absent x_T are drawn."""
    with progress("decoding", len(code)) as done:
        for start in range(0, len(code), BATCH):
            part = code[start : start + BATCH]
            yield model.decode(part, sampling=sampling, generator=generator).cpu()
            done(start + len(part))


def training_pack(model: DiffusionAutoencoder, images: Path | None) -> Pack:
    """The training images of a run as named in config.json, or others, prepared for its model.

    Raises:
        ConfigError: config.json does not name them.
        DataError: the images are gone, or cannot be used.
    """
    from diffae import checkpoint
    from diffae.data.build import build_pack
    from diffae.data.sources import is_there

    folder = model.folder
    noted = checkpoint.read_config(folder).get("data", {}) if folder and images is None else {}
    source = images or Path(noted.get("source", ""))
    if images is None and not ("key" in noted and is_there(source)):
        known = f"were {str(source)!r}, which is not there" if "source" in noted else "are not named in config.json"
        raise ConfigError(f"no images are given, and those that {folder} was trained on {known}; name some by --images")
    channels, size, _ = model.image_shape
    how = {"size": size, "channels": channels, **preparation(model), "progress": is_main()}
    with in_turns():
        pack = build_pack(source, cache_folder(), **how)
    if is_main() and noted and noted["key"] != pack.index["key"]:
        warn(f"{source} has changed since the run was trained: the present images are used")
    return pack


def z_sem_of(model: DiffusionAutoencoder, pack: Pack, rows: np.ndarray, folder: Path) -> np.ndarray:
    """z_sem of rows of a pack, (n, d), cached in the run folder."""
    from diffae.data.feature_cache import encode_pack

    with progress("encoding", len(rows), output=console(quiet=not is_main())) as done:
        return encode_pack(model, pack, rows, folder / CACHE, done)


def seeded(seed: int) -> Generator:
    """A generator for the random x_T of a command."""
    import torch

    return torch.Generator().manual_seed(seed)
