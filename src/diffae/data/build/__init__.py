"""Making a pack of any images: decoded once, in parallel, and found again by content."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt

from diffae.config import Window, WindowRule
from diffae.data.build.parallel import ContentKey, Work
from diffae.data.build.windows import find_window, sample_type
from diffae.data.images import WHITE, Crop, ImageSpec
from diffae.data.locks import locked
from diffae.data.pack import Pack, is_pack
from diffae.data.pack.writer import PackWriter, Progress
from diffae.data.sources import Item, KeyedImages, Source, open_source
from diffae.errors import DataError
from diffae.remote import is_remote

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Building(Work):
    """How a pack is built."""

    strict: bool = False
    """Refuse an image that cannot be read, instead of leaving it out with a warning (see `Pack.skipped`)."""
    at_least: int = 1
    """Fewer images are refused."""


class _Chunk(NamedTuple):
    images: list[UInt[np.ndarray, "h w c"]]
    names: list[str]
    labels: list[tuple[str, ...]]
    skipped: list[tuple[str, str]]


def build_pack(
    source: str | Path | Source | KeyedImages,
    cache_dir: str | Path,
    *,
    size: int,
    channels: int = 3,
    crop: Crop | None = None,
    background: tuple[int, int, int] = WHITE,
    window: Window | WindowRule | None = None,
    strict: bool = False,
    at_least: int = 2,
    workers: int | None = None,
    progress: bool = False,
) -> Pack:
    """Return the pack of these images with these settings: from `cache_dir` if it is there, else a new one.

    The cache key is made of the settings and the source's fingerprint: names, sizes and modification times of files in
    a folder, names, sizes and CRCs in a .zip, size and modification time of an array. Samples are uint8, or uint16 as
    soon as one image has 16 bits (8-bit samples are then multiplied by 257, which is exact). With a window they are
    always uint16, from 0 at its low end to 65535 at its high end.

    Args:
        source: a path, or an object of your own (see `diffae.data.sources.open_source`). A pack is returned as it is if
            the settings would change nothing.
        cache_dir: where packs are kept; made if needed. One process builds, others that need the same pack wait.
        size, channels, crop, background: see ImageSpec.
        window: see ImageSpec, or the rule by which it is found (`diffae.data.build.windows`). With a rule, a pack keeps
            its own.
        strict, at_least: see Building. Too few images are refused before any is decoded if their number is known.
        workers, progress: see Work.
    Raises:
        DataError: no or too few images, an unreadable one with strict, a full disk.
        ConfigError: an invalid setting.
    """
    spec, cache_dir = ImageSpec(channels, size, crop, background), Path(cache_dir)
    building = Building(workers, progress, strict, at_least)
    if isinstance(source, (str, Path)) and is_pack(Path(source)) and _is_ready(pack := Pack.open(source), spec, window):
        return _checked(pack, strict)
    images = open_source(source, channels)
    if images.count is not None:
        _check_count(images.path, images.count, images.count, at_least)
    if isinstance(window, str):
        window = find_window(images, spec, window, cache_dir, building)
    spec = replace(spec, window=window)
    key = ContentKey(images, spec).of_first()
    path = cache_dir / f"{images.path.stem or 'images'}-{size}x{channels}-{key[:12]}.pack"
    if not path.exists():
        with locked(cache_dir):
            if not path.exists():  # another process may have made it meanwhile
                _build(images, path, spec, {"key": key, "source": images.path.name}, building)
    return _checked(Pack.open(path), strict)


def prepare_pack(
    images: Source,
    path: str | Path,
    spec: ImageSpec,
    *,
    source: str,
    about: Sequence[object] = (),
    building: Building | None = None,
) -> Pack:
    """Return the pack of these images at a path of the user's choice, resuming an interrupted one.

    If the work stops for any reason, what was written is kept beside `path`, and the next call with the same images and
    settings resumes from there. Images not read yet may have changed meanwhile: a damaged one can be replaced without
    starting again. A complete pack is returned as it is.

    Args:
        images: the source.
        path: the pack's folder.
        spec: what every image is made into; its size must be given.
        source: what the pack says it was made of.
        about: other facts on which the pack depends, as JSON has them.
        building: by default strict.
    Raises:
        DataError: an unreadable image with strict, no images, another pack at `path`, a full disk.
    """
    path, content, building = Path(path), ContentKey(images, spec, *about), building or Building(strict=True)
    key = content.of_first()
    with locked(path.absolute().parent):
        if not path.exists():
            _build(images, path, spec, {"key": key, "source": source}, building, content)
        elif not is_pack(path) or Pack.open(path).index["key"] != key:
            raise DataError(f"pack {path}: exists already, of other content; remove it or choose another --out")
    return _checked(Pack.open(path), building.strict)


def check_space(path: Path, needed: int) -> None:
    """Raise `DataError` unless the disk of `path` has room for so many bytes; services of addresses are not asked."""
    if is_remote(path):
        return
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        have = f"{folder} has {free / 1e9:.2f} GB free of the {needed / 1e9:.2f} GB needed"
        raise DataError(f"cannot write {path}: {have}; free some space or choose another folder or disk")


def _is_ready(pack: Pack, spec: ImageSpec, window: Window | WindowRule | None) -> bool:
    """Whether making a pack to a specification would change nothing."""
    kept = pack.window is not None if isinstance(window, str) else window in (None, pack.window)
    return kept and spec.crop in (None, pack.crop) and pack.shape[1:] == (spec.size, spec.size, spec.channels)


def _check_count(source: str | Path, usable: int, total: int, at_least: int, why: str = "") -> None:
    if usable < at_least:
        have = f"{usable} of {total} images can be used, at least {at_least} are needed"
        raise DataError(f"images {source}: {have}; add some{why}")


def _checked(pack: Pack, strict: bool) -> Pack:
    if pack.skipped and strict:
        raise _strictly(pack.skipped[0][1])
    if pack.skipped:
        _log.warning(
            "%d of %d images could not be read and are left out (listed in %s); the first: %s",
            len(pack.skipped), len(pack) + len(pack.skipped), pack.path / "index.json", pack.skipped[0][1],
        )  # fmt: skip
    return pack


def _strictly(reason: str) -> DataError:
    return DataError(f"{reason} (left out with --incomplete, or without --strict)")


def _build(
    images: Source,
    path: Path,
    spec: ImageSpec,
    facts: dict[str, Any],
    building: Building,
    content: ContentKey | None = None,
) -> None:
    """Write the pack, resumably if `content` is given: as 8-bit samples until a 16-bit image turns up, then anew."""
    assert spec.size is not None
    shape, key_of_first = (spec.size, spec.size, spec.channels), content and content.of_first
    facts |= {"crop": spec.crop, "background": spec.background}
    if spec.window is not None:
        facts |= {"window": spec.window, "samples": sample_type(images, spec)}
    start = Progress.read(path, key_of_first) if key_of_first else Progress()
    if building.strict and start.skipped:
        start = Progress()
    for progress in (start, Progress(dtype="uint16")):
        dtype = np.dtype(progress.dtype)
        check_space(path, ((images.count or 0) - progress.count) * math.prod(shape) * dtype.itemsize)
        with PackWriter(path, shape, dtype, images.columns, key_of_first, progress) as writer:
            if _fill(writer, images, spec, building):
                why = f"; the first that could not be read: {writer.skipped[0][1]}" if writer.skipped else ""
                _check_count(facts["source"], writer.count, writer.done, building.at_least, why)
                writer.finish(facts)
                return


def _fill(writer: PackWriter, images: Source, spec: ImageSpec, building: Building) -> bool:
    """Write the images; False as soon as one has 16 bits and the pack 8."""
    decode = partial(_decode, spec=spec, strict=building.strict)
    with closing(building.in_chunks(decode, images, "reading images", writer.done)) as chunks:
        for pixels, names, labels, skipped in chunks:
            if any(image.dtype.itemsize > writer.dtype.itemsize for image in pixels):
                return False
            rows = np.zeros((len(pixels), *writer.shape), writer.dtype)
            for row, image in zip(rows, pixels, strict=True):
                # uint8 [0, 255] => uint16 [0, 65535]
                row[:] = image if image.dtype == writer.dtype else image.astype(np.uint16) * 257
            writer.append(rows, names, labels, skipped)
    return True


def _decode(items: Sequence[Item], spec: ImageSpec, strict: bool) -> _Chunk:
    chunk = _Chunk([], [], [], [])
    for item in items:
        try:
            chunk.images.append(item.read(spec))
        except DataError as error:
            if strict:
                raise _strictly(str(error)) from None
            chunk.skipped.append((item.name, str(error)))
        else:
            chunk.names.append(item.name)
            chunk.labels.append(item.labels)
    return chunk
