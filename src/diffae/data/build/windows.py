"""Finding the window of values of a set of images: one pass over all of them, cached beside the packs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Real

from diffae.checkpoint import written_beside
from diffae.config import Window, WindowRule
from diffae.data.build.parallel import ContentKey, Work
from diffae.data.images import ImageSpec
from diffae.data.locks import locked
from diffae.data.sources import Item, Source
from diffae.errors import DataError

PERCENTILES = (0.1, 99.9)
"""Of the values of each channel: the window of the rule "percentile"."""
_SAMPLES = 4_000_000  # values of each channel, at most about, that percentiles are taken of
_MANY = 1_000_000  # images, if their number is not known


_Values = tuple[Real[np.ndarray, " c"], Real[np.ndarray, " c"], Real[np.ndarray, "k c"]]
"""The least and the largest value of each channel of an image, and a sample of its values."""


def find_window(images: Source, spec: ImageSpec, rule: WindowRule, folder: Path, work: Work) -> Window:
    """Find the window of a set of images.

    Args:
        images: those that cannot be read or have values that are not finite are ignored.
        spec: what they are made into; values outside its crop do not count.
        rule: "auto" takes the least and largest value of each channel, "percentile" its PERCENTILES.
        folder: where the window is cached, in a small file.
        work: threads and progress bar.
    Raises:
        DataError: no image can be read, a channel has a single value, or the folder cannot be used.
    """
    key = ContentKey(images, replace(spec, size=None), "window", rule).of_first()
    path = folder / f"{images.path.stem or 'images'}-window-{key[:12]}.json"
    with locked(folder):
        if not path.is_file():
            window = _measure(images, spec, rule, work)
            with written_beside(path) as temporary:
                temporary.write_text(json.dumps(window), encoding="utf-8")
    return tuple((low, high) for low, high in json.loads(path.read_text(encoding="utf-8")))


def sample_type(images: Source, spec: ImageSpec) -> str:
    """Type of the samples of the first image that can be read.

    Raises:
        DataError: none can be.
    """
    reason = DataError(f"images {images.path}: there are none; check the path")
    for number, item in enumerate(images.items()):
        try:
            return item.read(_unchanged(spec)).dtype.name
        except DataError as error:
            reason = error if number == 0 else reason
    raise reason


def _unchanged(spec: ImageSpec) -> ImageSpec:
    """The image as in its file, except for crop and channels."""
    return replace(spec, size=None, window=None, measured=True)


def _measure(images: Source, spec: ImageSpec, rule: WindowRule, work: Work) -> Window:
    each = max(_SAMPLES // (images.count or _MANY), 1) if rule == "percentile" else 0
    with closing(work.in_chunks(partial(_look, spec=spec, each=each), images, "measuring values")) as chunks:
        found = [values for chunk in chunks for values in chunk]
    if not found:
        kind = sample_type(images, spec)  # raises the reason if none can be read
        raise DataError(f"images {images.path}: none has {kind} values that are all finite; replace the others")
    lows, highs, samples = zip(*found, strict=True)
    if rule == "percentile":
        lows, highs = np.percentile(np.concatenate(samples), PERCENTILES, axis=0)
    else:
        lows, highs = np.min(lows, axis=0), np.max(highs, axis=0)
    for channel, (low, high) in enumerate(zip(lows, highs, strict=True), 1):
        if not low < high:
            what = f"channel {channel} has the value {low:g} only (by --window {rule})"
            raise DataError(f"images {images.path}: {what}; state a window, for instance 0,255, or leave it out")
    return tuple((float(low), float(high)) for low, high in zip(lows, highs, strict=True))


def _look(items: Sequence[Item], spec: ImageSpec, each: int) -> list[_Values]:
    """The values of the images that can be read and are finite; `each` is the number of values in a sample."""
    found = []
    for item in items:
        try:
            pixels = item.read(_unchanged(spec))
        except DataError:
            continue
        values = pixels.reshape(-1, pixels.shape[2])
        if np.isfinite(values).all():
            sample = values[:: max(len(values) // each, 1)] if each else values[:0]
            found.append((values.min(axis=0), values.max(axis=0), sample.astype(np.float32)))
    return found
