"""Making a pack of whatever images a user has: decoded once, in parallel, and found again by content."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt

from diffae.config import Window, WindowRule
from diffae.data.images import WHITE, Crop, ImageSpec
from diffae.data.pack import Pack, PackWriter, locked
from diffae.data.parallel import bar, in_chunks
from diffae.data.resume import ContentKey, Progress, ResumableWriter
from diffae.data.sources.files import Source, is_pack
from diffae.data.sources.items import Item
from diffae.data.sources.streams import Stream, count_of, items_of, open_images
from diffae.data.windows import found_window, sample_type
from diffae.errors import DataError

_log = logging.getLogger(__name__)


class _Chunk(NamedTuple):
    images: list[UInt[np.ndarray, "h w c"]]
    names: list[str]
    labels: list[tuple[str, ...]]
    skipped: list[tuple[str, str]]


class _SixteenBitError(Exception):
    """A 16-bit image turned up among 8-bit ones."""


def build_pack(
    source: str | Path,
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
    """The pack of these images with these settings: the one in `cache_dir` if it is there, else a new one.

    It is found by a key of the settings and the source's fingerprint: names, sizes and modification times of files
    in a folder, names, sizes and CRCs in a .zip, size and modification time of an array. Samples are uint8, or
    uint16 as soon as one image has 16 bits (8-bit ones are then multiplied by 257, which is exact). With a window they
    are always uint16, 0 to 65535 from the window's low end to its high one.

    Args:
        source: whatever holds images (see `open_images`), or a pack, itself returned where nothing would change.
        cache_dir: where packs are kept; made if needed. Processes that ask at the same time wait for one of them.
        size, channels, crop, background: see ImageSpec.
        window: see ImageSpec, or how it is found (`diffae.data.windows`). A pack keeps its own where a rule is given.
        strict: refuse an image that cannot be read, instead of leaving it out (see `Pack.skipped`) with a log line.
        at_least: fewer images than this are refused, before any is decoded if there are no more.
        workers: threads that decode; the number of CPUs when None.
        progress: show a progress bar on stderr.
    Raises:
        DataError: no or too few images, an unreadable one with strict, a full disk.
        ConfigError: a setting its rule forbids.
    """
    spec, source, cache_dir = ImageSpec(channels, size, crop, background), Path(source), Path(cache_dir)
    if is_pack(source) and _is_ready(pack := Pack.open(source), spec, window):
        return _checked(pack, strict)
    images = open_images(source, channels)
    total = count_of(images)
    if total is not None:
        _check_count(source, total, total, at_least)
    workers = workers or os.cpu_count() or 1
    if isinstance(window, str):
        window = found_window(images, spec, window, cache_dir, workers=workers, progress=progress)
    spec = replace(spec, window=window)
    key = ContentKey(images, spec).of_all()
    path = cache_dir / f"{source.stem or 'images'}-{size}x{channels}-{key[:12]}.pack"
    if not path.exists():
        facts = {"key": key, "crop": crop, "background": background, "source": source.name}
        decoding = {"strict": strict, "workers": workers, "progress": progress}
        with locked(cache_dir):
            if not path.exists():  # another process may have made it meanwhile
                _build(images, path, spec, facts, at_least=at_least, **decoding)
    return _checked(Pack.open(path), strict)


def prepare_pack(
    images: Source | Stream,
    path: str | Path,
    spec: ImageSpec,
    *,
    source: str,
    about: Sequence[object] = (),
    strict: bool = True,
    at_least: int = 1,
    workers: int | None = None,
    progress: bool = False,
) -> Pack:
    """The pack of these images at a path of the user's choice, in as many sittings as it takes.

    What was written when the work stops, for whatever reason, is kept beside `path`; the next call with the same
    images and settings goes on from there (see `diffae.data.resume`). A pack that is complete is returned as it is.

    Args:
        images: where they come from.
        path: the pack's folder.
        spec: what every image is made into; its size must be given.
        source: what the pack says it was made of.
        about: other facts on which the pack depends, as JSON has them.
        strict, at_least, workers, progress: see `build_pack`.
    Raises:
        DataError: an unreadable image with strict, no images, another pack at `path`, a full disk.
    """
    path, content = Path(path), ContentKey(images, spec, *about)
    key = content.of_all()
    with locked(path.absolute().parent):
        if path.exists():
            if not is_pack(path) or Pack.open(path).index["key"] != key:
                raise DataError(f"pack {path}: exists already, of other content; remove it or choose another --out")
            return _checked(Pack.open(path), strict)
        facts = {"key": key, "crop": spec.crop, "background": spec.background, "source": source}
        decoding = {"strict": strict, "workers": workers or os.cpu_count() or 1, "progress": progress}
        _build(images, path, spec, facts, at_least=at_least, content=content, **decoding)
    return _checked(Pack.open(path), strict)


def _is_ready(pack: Pack, spec: ImageSpec, window: Window | WindowRule | None) -> bool:
    """Whether a pack would not change by being made to a specification."""
    kept = pack.window is not None if isinstance(window, str) else window in (None, pack.window)
    return kept and spec.crop in (None, pack.crop) and pack.shape[1:] == (spec.size, spec.size, spec.channels)


def check_space(path: Path, needed: int) -> None:
    """Raise `DataError` unless the disk that `path` is to be on has room for so many bytes."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        have = f"{folder} has {free / 1e9:.2f} GB free of the {needed / 1e9:.2f} GB needed"
        raise DataError(f"cannot write {path}: {have}; free some space or choose another folder or disk")


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
    images: Source | Stream,
    path: Path,
    spec: ImageSpec,
    facts: dict,
    *,
    strict: bool,
    at_least: int,
    workers: int,
    progress: bool,
    content: ContentKey | None = None,
) -> None:
    """Write the pack; with `content`, so that it can be continued."""
    size, total = spec.size, count_of(images)
    assert size is not None  # build_pack demands it
    columns = images.columns if isinstance(images, Stream) else ()
    if spec.window is not None:
        facts = {**facts, "window": spec.window, "samples": sample_type(images, spec)}

    def write(dtype: np.dtype, sofar: Progress) -> None:
        check_space(path, ((total or 0) - sofar.count) * size**2 * spec.channels * dtype.itemsize)
        shape = (size, spec.channels, dtype, columns)
        with (
            bar("reading images", total, progress) as advance,
            closing(
                in_chunks(partial(_decode, spec=spec, strict=strict), items_of(images, sofar.done), workers)
            ) as chunks,
            ResumableWriter(path, *shape, content, sofar) if content else PackWriter(path, *shape) as writer,
        ):
            advance(sofar.done)
            _fill(writer, chunks, advance, dtype)
            why = f"; the first that could not be read: {writer.skipped[0][1]}" if writer.skipped else ""
            _check_count(facts["source"], writer.count, writer.done, at_least, why)
            writer.finish({**facts, "skipped": writer.skipped})

    sofar = Progress.read(path, content) if content else Progress()
    if strict and sofar.skipped:
        sofar = Progress()
    with suppress(_SixteenBitError):
        write(np.dtype(sofar.dtype), sofar)
        return
    write(np.dtype(np.uint16), Progress())


def _fill(writer: PackWriter, chunks: Iterator[_Chunk], advance: Callable[[int], None], dtype: np.dtype) -> None:
    for chunk in chunks:
        if dtype == np.uint8 and any(image.dtype == np.uint16 for image in chunk.images):
            raise _SixteenBitError
        if chunk.images:
            writer.append(np.stack([_deepen(image, dtype) for image in chunk.images]), chunk.names, chunk.labels)
        count = len(chunk.images) + len(chunk.skipped)
        writer.looked_at(count, chunk.skipped)
        advance(count)


def _deepen(image: UInt[np.ndarray, "h w c"], dtype: np.dtype) -> UInt[np.ndarray, "h w c"]:
    if image.dtype == dtype:
        return image
    return image.astype(np.uint16) * 257  # uint8 [0, 255] => uint16 [0, 65535]


def _decode(items: Sequence[Item], spec: ImageSpec, strict: bool) -> _Chunk:
    chunk = _Chunk([], [], [], [])
    for item in items:
        try:
            chunk.images.append(item.read(spec))
            chunk.names.append(item.name)
            chunk.labels.append(item.labels)
        except DataError as error:
            if strict:
                raise _strictly(str(error)) from None
            chunk.skipped.append((item.name, str(error)))
    return chunk
