"""Models and images given to commands, and codes between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffae.cli import common
from diffae.cli.outside import OutsideWarning
from diffae.cli.terminal import warn
from diffae.console import console, progress
from diffae.data.cache import cache_folder
from diffae.distributed import in_turns, is_main, processes, world_size
from diffae.errors import ConfigError, DataError
from diffae.workers import team_size

if TYPE_CHECKING:
    import numpy as np
    from torch import Generator, Tensor

    from diffae.config import Sampling
    from diffae.data.pack import Pack
    from diffae.data.sources import Source
    from diffae.data.tables import Piece
    from diffae.latent.codes import Code
    from diffae.latent.encoding import Shard
    from diffae.model import DiffusionAutoencoder

BATCH = 64
"""Images decoded at once."""
SHARD = 8192
"""Images encoded between two pieces of a table."""
_LISTS = ("names", "origins", "skipped")
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


def require_student(model: DiffusionAutoencoder, sampling: Sampling) -> None:
    """Raise an error now, before images are encoded, where `sampling` needs a student that cannot decode by it.

    Raises:
        ConfigError: the run has none, or it was not trained for so many steps.
        CheckpointError: it is another decoder's.
    """
    if sampling.solver == "student":
        model.require_student().sampling(sampling)


def parameter_count(model: DiffusionAutoencoder) -> int:
    """Number of parameters of decoder and encoder."""
    return sum(parameter.numel() for parameter in model.parameters())


def settings_of(model: DiffusionAutoencoder) -> Mapping[str, Any]:
    """What config.json of the model's run says; nothing if it is of no run folder."""
    from diffae import checkpoint

    return checkpoint.read_config(model.folder) if model.folder else {}


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


def open_photos(path: Path, model: DiffusionAutoencoder) -> Source:
    """The images of a folder, archive, array, file of many images, or a single image file."""
    from diffae.data.formats.stacks import is_stack
    from diffae.data.images import SUFFIXES
    from diffae.data.sources import open_listed, open_source
    from diffae.data.sources.files import FileSource

    channels, suffix = model.image_shape[0], path.suffix.lower()
    single = path.is_file() and suffix in SUFFIXES and suffix != ".npy"
    if single and not (is_stack(path) and len(open_listed(path, channels).names) > 1):
        return FileSource(path)
    return open_source(path, channels)


def encode_photos(
    model: DiffusionAutoencoder,
    source: Source,
    size: int,
    sampling: Sampling | None = None,
    numbers: Iterable[int] | None = None,
    *,
    keep_pixels: bool = False,
) -> Iterator[Shard]:
    """Codes of images, shard by shard (see `encode_shards`), with a progress bar; by default of all shards.

    Warns of images that are unlike those of training.
    """
    from diffae.latent.encoding import encode_shards

    total = source.count
    if total is not None and isinstance(numbers, list):
        total = sum(min(size, total - number * size) for number in numbers)
    with progress("encoding", total) as done:
        wanted = count() if numbers is None else numbers
        outside = OutsideWarning(model)
        for shard in encode_shards(model, source, sampling, size, wanted, done, keep_pixels=keep_pixels):
            outside.see(shard.names, shard.code.z_sem)
            yield shard
    outside.tell()


def all_codes(shards: Iterable[Shard], path: Path) -> Shard:
    """The codes of all shards as one.

    Raises:
        DataError: none of the images can be used.
    """
    from diffae.latent.codes import Code
    from diffae.latent.encoding import Shard

    parts = list(shards)
    names, origins, skipped = (list(chain.from_iterable(getattr(part, name) for part in parts)) for name in _LISTS)
    require_some(len(names), skipped, path)
    code = Code.join([part.code for part in parts if part.names])
    pixels = [image for part in parts for image in part.pixels]
    return Shard(0, len(names) + len(skipped), names, code, origins, skipped, pixels)


def require_some(count: int, skipped: Iterable[tuple[str, str]], path: Path) -> None:
    """Raise `DataError` if no image could be read."""
    if not count:
        raise DataError(f"images {path}: none can be used, {next(iter(skipped))[1]}")


def write_table(out: Path, model: DiffusionAutoencoder, source: Source, piece_of: Callable[[Shard], Piece]) -> int:
    """Encode images to a table, a piece for each shard; warns of those left out, and returns how many it holds.

    Raises:
        DataError: none of the images can be used.
    """
    from diffae.data.tables import WRITERS

    written, skipped = 0, []

    def pieces() -> Iterator[Piece]:
        nonlocal written
        for shard in encode_photos(model, source, SHARD):
            skipped.extend(shard.skipped)
            written += len(shard.names)
            yield piece_of(shard)
        require_some(written, skipped, source.path)

    WRITERS[out.suffix](out, pieces())
    common.warn_skipped(skipped)
    return written


def decode_batches(
    model: DiffusionAutoencoder, code: Code, sampling: Sampling, generator: Generator | None = None
) -> Iterator[Tensor]:
    """Yield images (b, c, h, w) of codes in batches, on the CPU; absent x_T are drawn."""
    batch = BATCH * team_size()
    for start in range(0, len(code), batch):
        yield model.decode(code[start : start + batch], sampling=sampling, generator=generator).cpu()


def decode_all(model: DiffusionAutoencoder, code: Code, sampling: Sampling) -> Iterator[Tensor]:
    """As `decode_batches`, with a progress bar."""
    with progress("decoding", len(code)) as done:
        finished = 0
        for images in decode_batches(model, code, sampling):
            yield images
            finished += len(images)
            done(finished)


def training_pack(model: DiffusionAutoencoder, images: Path | None) -> Pack:
    """The training images of a run as named in config.json, or others, prepared for its model.

    Raises:
        ConfigError: config.json does not name them.
        DataError: the images are gone, or cannot be used.
    """
    from diffae.data.build import build_pack
    from diffae.data.sources import divided, is_there

    folder, labels = model.folder, None
    noted = settings_of(model).get("data", {})
    if images is None or str(images) == noted.get("source"):
        labels = noted.get("labels")
    noted = noted if images is None else {}
    source = images or Path(noted.get("source", ""))
    if images is None and not ("key" in noted and is_there(source)):
        known = f"were {str(source)!r}, which is not there" if "source" in noted else "are not named in config.json"
        raise ConfigError(f"no images are given, and those that {folder} was trained on {known}; name some by --images")
    channels, size, _ = model.image_shape
    how = {"size": size, "channels": channels, **preparation(model), "progress": is_main()}
    with in_turns():
        pack = build_pack(divided(source, labels, channels) if labels else source, cache_folder(), **how)
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
