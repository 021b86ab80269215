"""Finding the window of values of a set of images: one pass over all of them, remembered beside the packs."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Real

from diffae.config import Window, WindowRule
from diffae.data.images import ImageSpec
from diffae.data.parallel import bar, in_chunks
from diffae.data.resume import ContentKey
from diffae.data.sources.files import Source
from diffae.data.sources.items import Item
from diffae.data.sources.streams import Stream, count_of, items_of
from diffae.errors import DataError

PERCENTILES = (0.1, 99.9)
"""Of the values of each channel: the window of the rule "percentile"."""
_SAMPLES = 4_000_000  # values of each channel, at most about, that percentiles are taken of
_MANY = 1_000_000  # images, where their number is not known


class _Values(NamedTuple):
    """Of some images: the least and largest value of each channel, and a sample of values."""

    low: Real[np.ndarray, " c"]
    high: Real[np.ndarray, " c"]
    sample: Real[np.ndarray, "k c"]


def found_window(
    images: Source | Stream, spec: ImageSpec, rule: WindowRule, folder: Path, *, workers: int, progress: bool
) -> Window:
    """The window of these images: the least and largest value of each channel, or, of "percentile", PERCENTILES.

    Args:
        images: those that cannot be read are passed over.
        spec: what they are made into; values outside its crop do not count.
        rule: how the window is found.
        folder: where it is remembered, in a small file.
        workers, progress: see `diffae.data.build.build_pack`.
    Raises:
        DataError: no image can be read, or a channel has one value only.
    """
    key = ContentKey(images, replace(spec, size=None), "window", rule).of_all()
    path = folder / f"{images.path.stem or 'images'}-window-{key[:12]}.json"
    if path.is_file():
        return tuple((low, high) for low, high in json.loads(path.read_text(encoding="utf-8")))
    window = _measured(images, spec, rule, workers, progress)
    beside = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(window), encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        raise DataError(f"folder {folder}: cannot be used ({error.strerror}); choose another") from None
    return window


def sample_type(images: Source | Stream, spec: ImageSpec) -> str:
    """Type of the samples of the first image that can be read.

    Raises:
        DataError: none can be.
    """
    reason = None
    for item in items_of(images):
        try:
            return item.read(_unwindowed(spec)).dtype.name
        except DataError as error:
            reason = reason or error
    raise reason or DataError(f"images {images.path}: there are none; check the path")


def _unwindowed(spec: ImageSpec) -> ImageSpec:
    """As an image is in its file, but for the crop and the channels."""
    return replace(spec, size=None, window=None, measured=True)


def _measured(images: Source | Stream, spec: ImageSpec, rule: WindowRule, workers: int, progress: bool) -> Window:
    total = count_of(images)
    each = max(_SAMPLES // (total or _MANY), 1) if rule == "percentile" else 0
    found: list[_Values] = []
    with (
        bar("measuring values", total, progress) as advance,
        closing(in_chunks(partial(_look, spec=spec, each=each), items_of(images), workers)) as parts,
    ):
        for values, count in parts:
            found += values
            advance(count)
    if not found:
        kind = sample_type(images, spec)  # says why none can be read
        raise DataError(f"images {images.path}: none has {kind} values that are all finite; replace the others")
    if rule == "percentile":
        lows, highs = np.percentile(np.concatenate([part.sample for part in found]), PERCENTILES, axis=0)
    else:
        lows, highs = np.min([part.low for part in found], axis=0), np.max([part.high for part in found], axis=0)
    for channel, (low, high) in enumerate(zip(lows, highs, strict=True)):
        if not low < high:
            what = f"channel {channel + 1} has the value {low:g} only (by --window {rule})"
            raise DataError(f"images {images.path}: {what}; state a window, for instance 0,255, or leave it out")
    return tuple((float(low), float(high)) for low, high in zip(lows, highs, strict=True))


def _look(items: Sequence[Item], spec: ImageSpec, each: int) -> tuple[list[_Values], int]:
    """What the images hold, those passed over that cannot be read or used, and how many were looked at."""
    found = []
    for item in items:
        try:
            pixels = item.read(_unwindowed(spec))
        except DataError:
            continue
        values = pixels.reshape(-1, pixels.shape[2])
        if np.isfinite(values).all():
            sample = values[:: max(len(values) // each, 1)] if each else values[:0]
            found.append(_Values(values.min(axis=0), values.max(axis=0), sample.astype(np.float32)))
    return found, len(items)
