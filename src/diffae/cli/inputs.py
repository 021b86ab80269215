"""What images go through before training, as the command line states and tells it: --crop, --background, --window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffae.cli.common import error_console, warn
from diffae.config import Crop, Window, WindowRule
from diffae.errors import ConfigError

if TYPE_CHECKING:
    from diffae.data.pack import Pack

_DARK = 2**14  # of 2^16


def crop_of(text: str | None) -> Crop | None:
    """What an option --crop means.

    Raises:
        ConfigError: neither celeba nor four numbers.
    """
    if text is None or text == "celeba":
        return text
    rule = "must be celeba or left,top,right,bottom, for instance 0,0,64,64"
    left, top, right, bottom = _numbers("crop", text, 4, rule)
    return left, top, right, bottom


def background_of(text: str | None) -> tuple[int, int, int] | None:
    """What an option --background means.

    Raises:
        ConfigError: not three numbers.
    """
    if text is None:
        return None
    red, green, blue = _numbers("background", text, 3, "must be red,green,blue, each 0..255, for instance 0,0,0")
    return red, green, blue


def window_of(text: str | None, channels: int) -> Window | WindowRule | None:
    """What an option --window means.

    Raises:
        ConfigError: neither a rule nor two numbers, for all channels or for each.
    """
    if text is None or text == "auto" or text == "percentile":
        return text
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (2, 2 * channels):
        rule = f"must be auto, percentile, or low,high, once or for each of {channels} channels, as in --window=0,4095"
        raise ConfigError(f"window is {text!r}: {rule}")
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    return tuple(pairs * channels if len(pairs) == 1 else pairs)


def _numbers(name: str, text: str, count: int, rule: str) -> list[int]:
    parts = text.split(",")
    if len(parts) != count or not all(part.strip().isdecimal() for part in parts):
        raise ConfigError(f"{name} is {text!r}: {rule}")
    return [int(part) for part in parts]


def tell_values(pack: Pack) -> None:
    """Say which values become black and white; warn where 16 bits are hardly used."""
    import numpy as np

    if pack.window is not None:
        each = "; ".join(f"channel {number}: {low:g} to {high:g}" for number, (low, high) in enumerate(pack.window, 1))
        error_console().print(f"values from black to white, of {pack.samples}: {each}", highlight=False, soft_wrap=True)
    elif pack.dtype == np.uint16:
        brightest = pack.fetch(np.linspace(0, len(pack) - 1, min(len(pack), 64)).astype(int)).max()
        if brightest < _DARK:
            what = f"images reach {brightest} of 65535, so the model sees them nearly black"
            warn(f"{what}: --window auto, or for instance --window 0,4095, makes use of the range they have")
