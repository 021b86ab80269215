"""Pictures of images and numbers: sheets of captioned tiles, heat maps, animations and charts.

A tile is a small picture with a caption. Sheets enlarge tiles by whole factors, without smoothing, so that the pixels
of a 32x32 image stay visible.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from diffae.checkpoint import written_beside
from diffae.data.images import to_rgb, to_uint8, to_unit
from diffae.errors import DataError

LEAST_SIDE = 128
"""Smallest side of a tile in a sheet, in pixels: smaller tiles are enlarged."""
STRIP_SIDE = 80
"""The same for `labelled_rows`."""
ERROR_GAIN = 10.0
"""Error maps show |x - y| times this, for images in [0, 1]: white is an error of 0.1 or more."""
ANIMATED = (".gif", ".webp", ".mp4")
STILL = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

_GAP = 8  # pixels between tiles
_FRAME = 90  # milliseconds that a frame of an animation is shown
_LINE = 17  # height in pixels of one line of a caption
_INK, _PAPER = (60, 60, 64), (255, 255, 255)
_GREY = "#80848c"  # readable on white and on black
_COLOURS = ("#3b82f6", "#f59e0b", "#10b981", "#ef4444", "#8b5cf6", "#14b8a6", "#ec4899", "#84cc16")


@dataclass(frozen=True)
class Tile:
    """A picture with a caption."""

    pixels: UInt[np.ndarray, "h w 3"]
    """uint8 RGB."""
    caption: str = ""
    """Drawn below the picture; may have several lines."""


def tiles_of(x: Float[Tensor, "n c h w"], captions: Sequence[str] | str = "") -> list[Tile]:
    """Convert images in [-1, 1] to tiles, with a caption each or one caption for all."""
    texts = [captions] * len(x) if isinstance(captions, str) else captions
    return [Tile(pixels, text) for pixels, text in zip(to_rgb(to_uint8(x)), texts, strict=True)]


def heat_tile(values: Float[Tensor, "h w"], caption: str = "") -> Tile:
    """Draw a map of numbers, clipped to [0, 1], in matplotlib's colours "inferno": black to pale yellow."""
    from matplotlib import colormaps

    colours = colormaps["inferno"](values.detach().float().cpu().numpy(), bytes=True)
    return Tile(np.asarray(colours)[..., :3], caption)


def error_tile(x: Float[Tensor, "c h w"], y: Float[Tensor, "c h w"]) -> Tile:
    """Draw |x - y|, averaged over channels, times `ERROR_GAIN`; x and y are in [-1, 1]."""
    error = (to_unit(x.cpu()) - to_unit(y.cpu())).abs().mean(dim=0)
    return heat_tile(error * ERROR_GAIN, f"error ×{ERROR_GAIN:g}")


def chart_tile(chart: Image.Image, caption: str = "") -> Tile:
    """Put a chart on white."""
    page = Image.new("RGBA", chart.size, _PAPER)
    return Tile(np.asarray(Image.alpha_composite(page, chart).convert("RGB")), caption)


# ---------------------------------------------------------------------- sheets and animations


def check_suffix(path: Path, allowed: Sequence[str]) -> None:
    """Raise `DataError` unless the file name ends in one of the allowed suffixes, or for MP4 without PyAV."""
    if path.suffix.lower() not in allowed:
        raise DataError(f"cannot write {path.name}: the suffix must be one of {', '.join(allowed)}; rename it")
    if path.suffix.lower() == ".mp4" and not writes_mp4():
        raise DataError(f"cannot write {path.name}: MP4 needs PyAV, pip install 'diffae[video]'; or write a .webp")


def writes_mp4() -> bool:
    """Whether PyAV, which encodes videos, is installed."""
    return importlib.util.find_spec("av") is not None


def enlarge(pixels: UInt[np.ndarray, "h w c"], least: int = LEAST_SIDE) -> UInt[np.ndarray, "h2 w2 c"]:
    """Repeat pixels by a whole factor until the shorter side is at least `least`."""
    factor = max(1, -(-least // min(pixels.shape[:2])))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def in_rows(tiles: Sequence[Tile], columns: int) -> list[list[Tile]]:
    """Split tiles into rows of at most `columns`, as even as possible."""
    columns = -(-len(tiles) // -(-len(tiles) // columns))
    return [list(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]


def sheet(
    rows: Sequence[Sequence[Tile]], labels: Sequence[str] = (), *, side: int = LEAST_SIDE, transparent: bool = False
) -> Image.Image:
    """Arrange rows of tiles as one picture, with captions below the tiles.

    Args:
        rows: tiles; rows may differ in length.
        labels: one for each row, drawn to its left; or none.
        side: tiles are enlarged to at least this many pixels.
        transparent: RGBA without a background, with text that is readable on white and on black; else RGB on white.
    """
    rows = [[replace(tile, pixels=enlarge(tile.pixels, side)) for tile in row] for row in rows]
    labels = labels or [""] * len(rows)
    font, ink = _font(), _GREY if transparent else _INK
    margin = _GAP + max((int(font.getlength(line)) + _GAP for text in labels for line in text.splitlines()), default=0)
    widths = [margin + sum(tile.pixels.shape[1] + _GAP for tile in row) for row in rows]
    heights = [max(len(tile.pixels) + _caption_height(tile.caption) for tile in row) + _GAP for row in rows]
    mode, ground = ("RGBA", (0, 0, 0, 0)) if transparent else ("RGB", _PAPER)
    page = Image.new(mode, (max(widths), sum(heights) + _GAP), ground)
    draw, top = ImageDraw.Draw(page), _GAP
    for row, label, height in zip(rows, labels, heights, strict=True):
        draw.text((_GAP, top + max(len(tile.pixels) for tile in row) / 2), label, ink, font, "lm")
        left = margin
        for tile in row:
            tall, wide = tile.pixels.shape[:2]
            page.paste(Image.fromarray(tile.pixels), (left, top))
            caption = "\n".join(_fitted(line, wide) for line in tile.caption.splitlines())
            draw.text((left + wide / 2, top + tall + 3), caption, ink, font, "ma", align="center")
            left += wide + _GAP
        top += height
    return page


def show(
    images: Float[Tensor, "n c h w"], captions: Sequence[str] | str = "", *, columns: int = 8, side: int = LEAST_SIDE
) -> Image.Image:
    """Images in [-1, 1], of any number of channels, as one picture, which a notebook displays.

    Args:
        images: what `DiffusionAutoencoder.decode` returns.
        captions: one for each image, or one for all.
        columns: images in a row, at most.
        side: images are enlarged to at least this many pixels.
    """
    return sheet(in_rows(tiles_of(images, captions), columns), side=side)


def labelled_rows(rows: Sequence[tuple[str, Sequence[Tile]]]) -> Image.Image:
    """Arrange rows of tiles, given as (label, tiles), on a transparent background; see `sheet`."""
    labels, tiles = zip(*rows, strict=True)
    return sheet(tiles, labels, side=STRIP_SIDE, transparent=True)


def save_sheet(path: str | Path, page: Image.Image) -> None:
    """Write a picture atomically.

    Raises:
        DataError: the suffix is not one of `STILL`.
        TrainingError: the disk is full, or the folder is not writable.
    """
    path = Path(path)
    check_suffix(path, STILL)
    with written_beside(path) as temporary:
        page.save(temporary, Image.registered_extensions()[path.suffix.lower()])


def save_animation(path: str | Path, frames: Sequence[Tile]) -> None:
    """Write frames atomically as a .gif, .webp or .mp4; see `animation`.

    Raises:
        DataError: the suffix is not one of `ANIMATED`, or MP4 without PyAV.
        TrainingError: the disk is full, or the folder is not writable.
    """
    path = Path(path)
    check_suffix(path, ANIMATED)
    with written_beside(path) as temporary:
        temporary.write_bytes(animation(frames, path.suffix[1:].upper()))


def animation(frames: Sequence[Tile], kind: str = "WEBP") -> bytes:
    """Encode frames as an animation that plays forwards and backwards, and waits at both ends; GIF and WebP repeat it.

    Args:
        frames: tiles of one size; their captions are not drawn.
        kind: "GIF", "WEBP" or "MP4".
    """
    there_and_back = [*frames, *frames[-2:0:-1]]
    pictures = [Image.fromarray(enlarge(tile.pixels, 2 * LEAST_SIDE)) for tile in there_and_back]
    times = [1] * len(pictures)
    times[0] = times[len(frames) - 1] = 6
    if kind == "MP4":
        return _mp4([picture for picture, count in zip(pictures, times, strict=True) for _ in range(count)])
    if kind == "GIF":
        pictures = [picture.quantize(256, dither=Image.Dither.NONE) for picture in pictures]
    durations = [_FRAME * count for count in times]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, kind, save_all=True, append_images=pictures[1:], duration=durations, loop=0, lossless=True, disposal=1
    )
    return buffer.getvalue()


def _mp4(pictures: Sequence[Image.Image]) -> bytes:
    """H.264 at a constant rate, in the pixel format that every browser plays, whose sides are even."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as film:
        stream = film.add_stream("libx264", rate=Fraction(1000, _FRAME), options={"crf": "12"})
        stream.width, stream.height = (side + side % 2 for side in pictures[0].size)
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            frame = av.VideoFrame.from_image(picture.convert("RGB"))
            film.mux(stream.encode(frame.reformat(stream.width, stream.height)))
        film.mux(stream.encode())
    return buffer.getvalue()


def _caption_height(caption: str) -> int:
    return len(caption.splitlines()) * _LINE + (3 if caption else 0)


def _fitted(line: str, width: int) -> str:
    """A line of a caption, its middle left out where it is wider than `width` pixels."""
    shown, half = line, len(line) // 2
    while _font().getlength(shown) > width and half > 1:
        half -= 1
        shown = f"{line[:half]}…{line[-half:]}"
    return shown


@lru_cache
def _font() -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and has the symbols that captions use."""
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 13)


# ---------------------------------------------------------------------- charts, on a transparent background


class Interval(Protocol):
    """A number with its interval, such as `diffae.evaluation.statistics.Estimate`."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


Curve = tuple[Sequence[float], Sequence[float] | Sequence[Interval]]
"""x, and y with or without intervals."""


def curves(lines: Mapping[str, Curve], x_label: str, y_label: str, *, logarithmic: str = "") -> Image.Image:
    """Plot curves, their intervals shaded; `logarithmic` names axes, for instance "y" or "xy"."""
    axes = _axes()
    for name, (x, y) in lines.items():
        value, low, high = np.array([[getattr(one, end, one) for one in y] for end in ("value", "low", "high")])
        [line] = axes.plot(x, value, label=name, linewidth=1.8, marker="o" if len(x) < 12 else None, markersize=4)
        axes.fill_between(x, low, high, color=line.get_color(), alpha=0.18, linewidth=0)
    for axis in logarithmic:
        getattr(axes, f"set_{axis}scale")("log")
    first = next(iter(lines.values()))[0]
    if len(first) < 6:
        axes.set_xticks(first, [f"{value:g}" for value in first])
        if "x" in logarithmic:
            axes.minorticks_off()
    return _drawn(axes, x_label, y_label)


def dots(groups: Mapping[str, Mapping[str, Interval]], x_label: str) -> Image.Image:
    """Plot a row of dots with intervals for each group; entries of the same name have the same colour."""
    names = list(dict.fromkeys(name for entries in groups.values() for name in entries))
    axes = _axes(1.0 + 0.38 * len(groups))
    for place, name in enumerate(names):
        found = {row: entries[name] for row, entries in enumerate(groups.values()) if name in entries}
        y = [row + 0.6 * ((place + 0.5) / len(names) - 0.5) for row in found]
        [line] = axes.plot([one.value for one in found.values()], y, "o", markersize=4.5, label=name)
        low, high = ([getattr(one, end) for one in found.values()] for end in ("low", "high"))
        axes.hlines(y, low, high, color=line.get_color(), linewidth=1.2, alpha=0.7)
    axes.set_yticks(range(len(groups)), list(groups))
    axes.set_ylim(len(groups) - 0.4, -0.6)
    return _drawn(axes, x_label)


def histograms(samples: Mapping[str, Sequence[float]], x_label: str, bins: int = 30) -> Image.Image:
    """Plot the distributions of several samples over the same bins."""
    axes = _axes(2.8)
    edges = np.histogram_bin_edges(np.concatenate([*samples.values()]), bins).tolist()
    for name, values in samples.items():
        axes.hist(values, edges, weights=[1 / len(values)] * len(values), histtype="stepfilled", alpha=0.35, label=name)
    return _drawn(axes, x_label, "share of images")


def _axes(height: float = 3.2):
    from matplotlib.figure import Figure

    axes = Figure(figsize=(7.2, height), dpi=160, layout="constrained").add_subplot()
    axes.set_prop_cycle(color=_COLOURS)
    return axes


def _drawn(axes, x_label: str, y_label: str = "") -> Image.Image:
    axes.set_xlabel(x_label, color=_GREY)
    axes.set_ylabel(y_label, color=_GREY)
    axes.tick_params(which="both", colors=_GREY)
    axes.grid(axis="both", color=_GREY, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.figure.legend(loc="outside upper center", ncols=4, frameon=False, labelcolor=_GREY, fontsize=8)
    buffer = io.BytesIO()
    axes.figure.savefig(buffer, format="png", transparent=True)
    return Image.open(buffer)
