"""Encoding of any number of images: read ahead in threads, one batch on the device, one shard of codes in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from diffae.config import ModelConfig, Sampling
from diffae.data.build.parallel import in_order
from diffae.data.images import ImageMetadata, ImageSpec, metadata_of, read_ready, to_float
from diffae.data.sources import Item, ListedSource, Source
from diffae.data.sources.files import FileSource, FolderSource
from diffae.data.sources.stacks import StackSource
from diffae.errors import DataError
from diffae.latent.codes import Code

BATCH = 64
"""Images encoded at once."""
_CHUNK = 16  # images read at once by one thread


class Encodes(Protocol):
    """What encoding needs of a model, such as `diffae.DiffusionAutoencoder`."""

    @property
    def config(self) -> ModelConfig: ...
    def encode_semantic(self, images: Tensor) -> Tensor: ...
    def encode(self, images: Tensor, sampling: Sampling) -> Code: ...


@dataclass(frozen=True)
class Shard:
    """Codes of consecutive images of a source."""

    number: int
    """Its place among the shards, from 0."""
    seen: int
    """Images visited: those encoded, and those skipped."""
    names: list[str]
    code: Code
    """On the CPU, in the order of the names."""
    origins: list[ImageMetadata | None]
    """Metadata of each image's file; None where it says no more than the type of the model's images."""
    skipped: list[tuple[str, str]]
    """Name of each image that could not be read, and why."""
    pixels: list[np.ndarray] = field(default_factory=list)
    """The images (h, w, c), if they are kept."""


def encode_shards(
    model: Encodes,
    source: Source,
    sampling: Sampling | None,
    size: int,
    numbers: Iterable[int],
    progress: Callable[[int], None] | None = None,
    *,
    keep_pixels: bool = False,
) -> Iterator[Shard]:
    """Encode shards of a source one after another; images that cannot be read are left out.

    Args:
        model: encodes batches.
        source: the images.
        sampling: how to find x_T; None to encode z_sem alone.
        size: images in a shard, a multiple of BATCH.
        numbers: which shards, ascending, without end if need be: shards beyond the last image do not exist.
        progress: called with the number of images visited so far.
        keep_pixels: whether shards hold the images, too.
    """
    folder = source.path if isinstance(source, (FileSource, FolderSource, StackSource)) else None
    read = partial(_read, ImageSpec.of_model(model.config), model.config.input.dtype, folder)
    results = in_order(read, _pieces(source, size, numbers))
    done = 0
    for number, group in groupby(results, key=lambda result: result[0][0]):
        shard, codes = _Read(), []
        images = (part for _, part in group)
        while batch := list(islice(images, BATCH // _CHUNK)):
            if pixels := [image for part in batch for image in part.pixels]:
                x = _to_batch(pixels)
                code = Code(model.encode_semantic(x)) if sampling is None else model.encode(x, sampling)
                codes.append(code.to("cpu"))
            for part in batch:
                shard.add(part, keep_pixels)
            if progress:
                progress(done + shard.seen)
        done += shard.seen
        code = Code.join(codes) if codes else _no_code(model, sampling)
        yield Shard(number, shard.seen, shard.names, code, shard.origins, shard.skipped, shard.pixels)


def _no_code(model: Encodes, sampling: Sampling | None) -> Code:
    """z_sem of no images, so that the tables of all shards have the same columns."""
    dtype = torch.float64 if sampling is not None and sampling.precision == "float64" else torch.float32
    return Code(torch.empty((0, model.config.z_sem_channels), dtype=dtype) if model.config.has_encoder else None)


@dataclass
class _Read:
    """What was read of some images."""

    pixels: list[np.ndarray] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    origins: list[ImageMetadata | None] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    @property
    def seen(self) -> int:
        return len(self.names) + len(self.skipped)

    def add(self, other: _Read, pixels: bool) -> None:
        """Append the facts, and if so the pixels."""
        self.pixels += other.pixels if pixels else []
        self.names += other.names
        self.origins += other.origins
        self.skipped += other.skipped


def _pieces(source: Source, size: int, numbers: Iterable[int]) -> Iterator[tuple[int, list[Item]]]:
    """The images of these shards in pieces of at most _CHUNK, each with the number of its shard."""
    items, position = source.items(), 0
    for number in numbers:
        start = number * size
        if isinstance(source, ListedSource) and start > position:
            items = source.items(start)
        else:  # what can only be read in sequence is passed over
            next(islice(items, start - position, start - position), None)
        position = start
        while position < start + size and (piece := list(islice(items, min(_CHUNK, start + size - position)))):
            yield number, piece
            position += len(piece)
        if position < start + size:
            return


def _read(spec: ImageSpec, dtype: str, folder: Path | None, piece: tuple[int, list[Item]]) -> _Read:
    """Read images, and the metadata of those that are files in a folder."""
    found = _Read()
    for item in piece[1]:
        try:
            found.pixels.append(read_ready(item.read, spec))
        except DataError as error:
            found.skipped.append((item.name, str(error)))
        else:
            found.names.append(item.name)
            origin = metadata_of(folder / item.name) if folder else None
            plain = origin is not None and origin == ImageMetadata("png", dtype, origin.shape)
            found.origins.append(None if plain else origin)
    return found


def _to_batch(pixels: list[np.ndarray]) -> Tensor:
    """Images of one size (h, w, c), uint8 or uint16, as a batch in [-1, 1]."""
    alike = (np.stack(list(group)) for _, group in groupby(pixels, key=lambda image: image.dtype))
    return torch.cat([to_float(torch.from_numpy(images)).permute(0, 3, 1, 2).contiguous() for images in alike])
