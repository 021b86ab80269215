"""Making a pack of whatever images a user has: decoded once, in parallel, and found again by content."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt

from diffae.data.pack import FORMAT, Pack, PackWriter, locked
from diffae.data.sources import Source, is_pack, open_source
from diffae.errors import DataError
from diffae.images import WHITE, Crop, ImageSpec

_CHUNK = 32  # images decoded by one task

_log = logging.getLogger(__name__)


class _Chunk(NamedTuple):
    images: list[UInt[np.ndarray, "h w c"]]
    names: list[str]
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
    strict: bool = False,
    at_least: int = 2,
    workers: int | None = None,
    progress: bool = False,
) -> Pack:
    """The pack of these images with these settings: the one in `cache_dir` if it is there, else a new one.

    It is found by a key of the settings and the source's fingerprint: names, sizes and modification times of files
    in a folder, names, sizes and CRCs in a .zip, size and modification time of an array. Samples are uint8, or
    uint16 as soon as one image has 16 bits (8-bit ones are then multiplied by 257, which is exact).

    Args:
        source: a folder, .zip, .npy, .npz (see `open_source`), or a pack, itself returned where nothing would change.
        cache_dir: where packs are kept; made if needed. Processes that ask at the same time wait for one of them.
        size, channels, crop, background: see ImageSpec.
        strict: refuse an image that cannot be read, instead of leaving it out (see `Pack.skipped`) with a log line.
        at_least: fewer images than this are refused, before any is decoded if there are no more.
        workers: threads that decode; the number of CPUs when None.
        progress: show a progress bar on stderr.
    Raises:
        DataError: no or too few images, an unreadable one with strict, a full disk.
        ConfigError: a setting its rule forbids.
    """
    spec, source, cache_dir = ImageSpec(channels, size, crop, background), Path(source), Path(cache_dir)
    if is_pack(source) and crop is None and (pack := Pack.open(source)).shape[1:] == (size, size, channels):
        return _checked(pack, strict)
    images = open_source(source)
    _check_count(source, len(images.names), len(images.names), at_least)
    key = _key(images, spec)
    path = cache_dir / f"{source.stem or 'images'}-{size}x{channels}-{key[:12]}.pack"
    if not path.exists():
        facts = {"key": key, "crop": crop, "background": background, "source": source.name}
        decoding = {"strict": strict, "workers": workers or os.cpu_count() or 1, "progress": progress}
        with locked(cache_dir):
            if not path.exists():  # another process may have made it meanwhile
                _build(images, path, spec, facts, at_least=at_least, **decoding)
    return _checked(Pack.open(path), strict)


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


def _key(source: Source, spec: ImageSpec) -> str:
    digest = hashlib.sha256(json.dumps([FORMAT, asdict(replace(spec, crop=spec.box))]).encode())
    for entry in source.fingerprint():
        digest.update(json.dumps(entry).encode())
    return digest.hexdigest()


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
    return DataError(f"{reason} (without strict it would be left out)")


def _build(
    source: Source,
    path: Path,
    spec: ImageSpec,
    facts: dict,
    *,
    strict: bool,
    at_least: int,
    workers: int,
    progress: bool,
) -> None:
    size, total = spec.size, len(source.names)
    assert size is not None  # build_pack demands it

    def write(dtype: np.dtype) -> None:
        check_space(path, total * size**2 * spec.channels * dtype.itemsize)
        with (
            _bar(total, progress) as advance,
            closing(_decode_all(source, spec, strict, workers)) as chunks,
            PackWriter(path, size, spec.channels, dtype) as writer,
        ):
            skipped = _fill(writer, chunks, advance, dtype)
            why = f"; the first that could not be read: {skipped[0][1]}" if skipped else ""
            _check_count(facts["source"], writer.count, total, at_least, why)
            writer.finish({**facts, "skipped": skipped})

    try:
        write(np.dtype(np.uint8))
    except _SixteenBitError:
        write(np.dtype(np.uint16))


def _fill(
    writer: PackWriter, chunks: Iterator[_Chunk], advance: Callable[[int], None], dtype: np.dtype
) -> list[tuple[str, str]]:
    skipped = []
    for chunk in chunks:
        if dtype == np.uint8 and any(image.dtype == np.uint16 for image in chunk.images):
            raise _SixteenBitError
        if chunk.images:
            writer.append(np.stack([_deepen(image, dtype) for image in chunk.images]), chunk.names)
        skipped += chunk.skipped
        advance(len(chunk.images) + len(chunk.skipped))
    return skipped


def _deepen(image: UInt[np.ndarray, "h w c"], dtype: np.dtype) -> UInt[np.ndarray, "h w c"]:
    if image.dtype == dtype:
        return image
    return image.astype(np.uint16) * 257  # uint8 [0, 255] => uint16 [0, 65535]


def _decode_all(source: Source, spec: ImageSpec, strict: bool, workers: int) -> Generator[_Chunk]:
    """Chunks in the order of the names. Threads suffice: Pillow decodes and resizes without Python's lock."""
    starts = iter(range(0, len(source.names), _CHUNK))
    pool = ThreadPoolExecutor(workers)
    pending: deque[Future[_Chunk]] = deque()
    try:
        while True:
            while len(pending) < 2 * workers and (start := next(starts, None)) is not None:
                pending.append(pool.submit(_decode, source, start, spec, strict))
            if not pending:
                return
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _decode(source: Source, start: int, spec: ImageSpec, strict: bool) -> _Chunk:
    chunk = _Chunk([], [], [])
    for index in range(start, min(start + _CHUNK, len(source.names))):
        name = source.names[index]
        try:
            chunk.images.append(source.read(index, spec))
            chunk.names.append(name)
        except DataError as error:
            if strict:
                raise _strictly(str(error)) from None
            chunk.skipped.append((name, str(error)))
    return chunk


@contextmanager
def _bar(total: int, show: bool) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with Progress("reading images", *columns, console=Console(stderr=True), disable=not show) as bar:
        task = bar.add_task("", total=total, rate="")

        def advance(count: int) -> None:
            bar.advance(task, count)
            bar.update(task, rate=f"{bar.tasks[0].speed or 0:.0f} images/s")

        yield advance
