"""Options that several commands share, and what their values mean."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from diffae.config import Crop, Sampling, Window, WindowRule
from diffae.diffusion.settings import Arithmetic, InversionName, Spacing
from diffae.errors import ConfigError

RunArgument = Annotated[
    str, Positional, arg(metavar="RUN", help="Run folder made by `diffae train`, or a Hub id (owner/name).")
]
ImageArgument = Annotated[Path, Positional, arg(metavar="IMAGE", help="Image file.")]
TrainingImages = Annotated[
    Path | None,
    arg(
        help="Images to use instead: a folder, .zip, .npy, .npz or .pack.",
        help_behavior_hint="(default: the run's training images)",
    ),
]

StudentOption = Annotated[
    int | None,
    arg(
        help="Decode by the run's student, in 1, 2 or 4 network calls (`diffae distill`).",
        help_behavior_hint="(optional)",
    ),
]

optional: Any = arg(help_behavior_hint="(optional)")
by_preset: Any = arg(help_behavior_hint="(default: the preset's)")
_steps: Any = arg(help_behavior_hint=f"(default: {Sampling.steps}; {Sampling.official().steps} with --official)")


@dataclass(frozen=True)
class SamplingOptions:
    """How the decoder's ODE is solved."""

    steps: Annotated[int | None, _steps] = None
    """Solver steps, 1 to 1000."""
    inversion: InversionName = "exact"
    """How x_T is found: "exact" inverts the decoder's steps, "explicit" is textbook reverse DDIM, "official" the
    published inversion; "bdia" is exact and cheaper, with a stochastic code of two states, twice the size."""
    spacing: Spacing = Sampling.spacing
    """Timestep spacing: "quadratic", denser near the image, loses least when inverted; "squares" is similar, for few
    steps; "leading" is even from 1, as published; "trailing" is even up to T."""
    solver: Literal["ddim", "dpm++2m"] = "ddim"
    """Solver for decoding: "ddim", or "dpm++2m" for random x_T, which with --spacing squares needs 10 steps where DDIM
    needs 50, and cannot encode."""
    precision: Arithmetic = Sampling.precision
    """Arithmetic of the networks: "bfloat16" is the fastest and not exact, "float64" the most exact."""
    official: bool = False
    """The published settings: leading spacing, official inversion, clipped x_0."""

    def sampling(self) -> Sampling:
        """The settings these options stand for.

        Raises:
            ConfigError: an invalid value, or --official together with an option it sets.
        """
        names = ("inversion", "spacing", "solver")
        given = {name: getattr(self, name) for name in names}
        fixed = {"precision": self.precision} | ({} if self.steps is None else {"steps": self.steps})
        if not self.official:
            return Sampling(**fixed, **given)
        official = replace(Sampling.official(), **fixed)
        for name, value in given.items():
            if value not in (getattr(Sampling, name), getattr(official, name)):
                raise ConfigError(f"{name} is {value!r}: --official sets its own; drop one of the two")
        return official


def decoding(student: int | None, sampling: Sampling) -> Sampling:
    """How to decode: by the student in so many steps, if they are given, else as the other options say."""
    return sampling if student is None else replace(Sampling.student(student), precision=sampling.precision)


def crop_of(text: str | None) -> Crop | None:
    """The value of --crop.

    Raises:
        ConfigError: neither celeba nor four numbers.
    """
    if text is None or text == "celeba":
        return text
    rule = "must be celeba or left,top,right,bottom, for instance 0,0,64,64"
    left, top, right, bottom = _numbers("crop", text, 4, rule)
    return left, top, right, bottom


def background_of(text: str | None) -> tuple[int, int, int] | None:
    """The value of --background.

    Raises:
        ConfigError: not three numbers.
    """
    if text is None:
        return None
    red, green, blue = _numbers("background", text, 3, "must be red,green,blue, each 0..255, for instance 0,0,0")
    return red, green, blue


def window_of(text: str | None, channels: int) -> Window | WindowRule | None:
    """The value of --window.

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
