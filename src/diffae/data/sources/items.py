"""One image of a stream, not decoded yet, and what is known about it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt

from diffae.data.images import ImageSpec, decode_image
from diffae.errors import DataError


class Item(NamedTuple):
    """One image that was found, and may not be decoded yet."""

    name: str
    read: Callable[[ImageSpec], UInt[np.ndarray, "h w c"]]
    """Makes it to a specification, on any thread; raises DataError where it is damaged or cannot be made so."""
    labels: tuple[str, ...] = ()
    """What is known about it, as the cells of a CSV under the stream's columns; "" where unknown."""


def columns_of(keys: Iterable[str]) -> dict[str, str]:
    """The column of a CSV for each key: separators are spaces, and a name that another key has gets a number."""
    columns: dict[str, str] = {}
    for key in keys:
        name = column = " ".join(re.split(r"[\s,;]+", key)).strip()
        number = 1
        while column in columns.values():
            number += 1
            column = f"{name} {number}"
        columns[key] = column
    return columns


def cell_of(value: float | None) -> str:
    """A number or truth value as a cell of a CSV; nothing where it is not finite."""
    text = str(int(value) if isinstance(value, bool) else value)
    return text if value is not None and math.isfinite(float(text)) else ""


def encoded(data: bytes, name: str, labels: tuple[str, ...] = ()) -> Item:
    """An item from the bytes of an image file."""
    return Item(name, partial(decode_image, data, name), labels)


def failed(name: str, reason: str, labels: tuple[str, ...] = ()) -> Item:
    """An item that cannot be had, told when it is asked for, as a damaged one is."""

    def read(_: ImageSpec) -> np.ndarray:
        raise DataError(f"image {name}: {reason}")

    return Item(name, read, labels)
