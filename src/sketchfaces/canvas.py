"""The drawing surface: signed distances in, antialiased pixels out.

The page spans x in [-0.9, 0.9] to the right and y in [-0.86, 0.94] down, whether small or large. Distances are negative
inside a shape. Colours are float32 in [0, 1] (sRGB), channels first: (3,) if flat, (3, h, w) if shaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor

import numpy as np
from PIL import Image

Array = np.ndarray
LEFT, TOP, EXTENT = -0.9, -0.86, 1.8


class View:
    """A rectangle of a canvas; painting on it changes the canvas.

    Attributes:
        x, y: (1, w) and (h, 1) coordinates of the pixel centres.
        px: width of a pixel.
        rgb: (3, h, w) colours.
        at: slices any other (..., n, n) field to the same rectangle.
    """

    def __init__(self, canvas: Canvas, box: tuple[float, float, float, float]) -> None:
        n, px = canvas.rgb.shape[1], canvas.px
        columns = _pixels((box[0] - LEFT) / px, (box[2] - LEFT) / px, n)
        rows = _pixels((box[1] - TOP) / px, (box[3] - TOP) / px, n)
        self.at = (..., rows, columns)
        self.x, self.y, self.px = canvas.x[:, columns], canvas.y[rows], px
        self.rgb = canvas.rgb[self.at]

    def fill(self, distance: Array, colour: Array, opacity: Array | float = 1.0, blur: float = 0.0) -> None:
        """Paint the inside of `distance` (h, w); the edge fades over `blur` plus a pixel."""
        cover = coverage(distance, self.px, blur)
        self.blend(cover if isinstance(opacity, float) and opacity == 1.0 else cover * opacity, colour)

    def stroke(self, distance: Array, half_width: float, colour: Array, opacity: float = 1.0) -> None:
        """Paint a line along `distance` = 0; lines thinner than a pixel become fainter."""
        drawn = max(half_width, self.px / 2)
        self.fill(np.abs(distance) - drawn, colour, opacity * half_width / drawn)

    def blend(self, cover: Array, colour: Array) -> None:
        """Blend `colour` in with weights `cover` (h, w) in [0, 1]."""
        paint = colour[:, None, None] if colour.ndim == 1 else colour
        self.rgb += cover * (paint - self.rgb)


class Canvas:
    """A square picture of `pixels` x `pixels`, initially black."""

    def __init__(self, pixels: int) -> None:
        self.px = EXTENT / pixels
        axis = ((np.arange(pixels) + 0.5) * self.px).astype(np.float32)
        self.x, self.y = axis[None, :] + np.float32(LEFT), axis[:, None] + np.float32(TOP)
        self.rgb = np.zeros((3, pixels, pixels), np.float32)

    def view(self, x0: float = -1, y0: float = -1, x1: float = 1, y1: float = 1) -> View:
        """The rectangle from (x0, y0) to (x1, y1), plus a pixel on each side."""
        return View(self, (x0, y0, x1, y1))

    def around(self, x: float, y: float, rx: float, ry: float | None = None) -> View:
        """The rectangle with centre (x, y) and half sides `rx`, `ry`."""
        ry = ry or rx
        return self.view(x - rx, y - ry, x + rx, y + ry)

    def finish(self, size: int) -> Array:
        """float32 [0, 1] (3, k * size, k * size) => uint8 [0, 255] (size, size, 3), averaging k x k pixels."""
        k = self.rgb.shape[1] // size
        small = self.rgb.reshape(3, size, k, size, k).mean(axis=(2, 4)) if k > 1 else self.rgb
        return (np.clip(small, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)


def _pixels(low: float, high: float, count: int) -> slice:
    """The pixels between two positions plus one on each side, clipped to the canvas."""
    return slice(min(max(floor(low) - 1, 0), count), max(min(ceil(high) + 1, count), 0))


def coverage(distance: Array, px: float, blur: float = 0.0) -> Array:
    """Fraction of each pixel that lies inside: 1 in, 0 out, a ramp as wide as a pixel plus `blur` between."""
    return np.clip(0.5 - distance / (px + blur), 0, 1)


def smoothstep(value: Array | float, low: float, high: float) -> Array:
    """0 below `low`, 1 above `high` (reversed if low > high), an S-curve between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def ellipse(x: Array, y: Array, rx: float, ry: float) -> Array:
    """Approximate distance to an ellipse around the origin; exact on the outline and for circles."""
    u, v = x / rx, y / ry
    k1 = np.sqrt(u * u + v * v)
    k2 = np.sqrt((u / rx) ** 2 + (v / ry) ** 2)
    return k1 * (k1 - 1) / (k2 + 1e-6)


def rounded_box(x: Array, y: Array, rx: Array | float, ry: Array | float, radius: float) -> Array:
    """Distance to a rectangle of half sides `rx`, `ry` with corners rounded by `radius`."""
    u, v = np.abs(x) - rx + radius, np.abs(y) - ry + radius
    return np.sqrt(np.maximum(u, 0) ** 2 + np.maximum(v, 0) ** 2) + np.minimum(np.maximum(u, v), 0) - radius


def segment(x: Array, y: Array, start: Sequence[float], end: Sequence[float]) -> Array:
    """Distance to the straight line between two points."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    t = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy + 1e-9), 0, 1)
    return np.sqrt((x - start[0] - t * dx) ** 2 + (y - start[1] - t * dy) ** 2)


def arc(x: Array, y: Array, half_width: float, rise: float, slope: float = 0.0) -> Array:
    """Distance to the curve y = rise (x / half_width)^2 + slope x for |x| <= half_width, with round ends.

    The lowest point of a smile (negative `rise`, y down) is at the origin.
    """
    u = np.clip(x, -half_width, half_width)
    curve = rise * (u / half_width) ** 2 + slope * u
    tilt = 2 * rise * u / half_width**2 + slope
    return np.sqrt(((y - curve) ** 2) / (1 + tilt**2) + (x - u) ** 2)


def smooth_union(a: Array, b: Array, radius: float) -> Array:
    """The union of two shapes, blended over about `radius`."""
    h = np.maximum(radius - np.abs(a - b), 0) / radius
    return np.minimum(a, b) - h * h * radius / 4


def turned(x: Array, y: Array, angle: float) -> tuple[Array, Array]:
    """Coordinates in axes rotated by `angle` radians."""
    c, s = np.cos(angle), np.sin(angle)
    return c * x + s * y, c * y - s * x


def lattice(rng: np.random.Generator, cells: int, pixels: int) -> Array:
    """Smooth noise (pixels, pixels) of about unit variance, the same function of position at every resolution."""
    values = Image.fromarray(rng.standard_normal((cells, cells), np.float32))
    return np.asarray(values.resize((pixels, pixels), Image.Resampling.BICUBIC))


def mix(a: Array, b: Array, t: Array | float) -> Array:
    """`a` at t = 0, `b` at t = 1."""
    return a + (b - a) * t


def rgb(code: str) -> Array:
    """A colour from six hexadecimal digits."""
    return np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)], np.float32) / 255


def palette(codes: str) -> list[Array]:
    """Colours from hexadecimal codes separated by spaces."""
    return [rgb(code) for code in codes.split()]


def ramp(colours: list[Array], t: float) -> Array:
    """The colour at `t` in [0, 1] along equally spaced colours."""
    place = min(max(t, 0.0), 1.0) * (len(colours) - 1)
    low = min(int(place), len(colours) - 2)
    return mix(colours[low], colours[low + 1], place - low)


def oklch(lightness: float, chroma: float, hue: float) -> Array:
    """OKLCH => sRGB [0, 1], perceptually uniform; hue in degrees."""
    a, b = chroma * np.cos(np.radians(hue)), chroma * np.sin(np.radians(hue))
    long, medium, short = (
        (lightness + p * a + q * b) ** 3
        for p, q in ((0.3963377774, 0.2158037573), (-0.1055613458, -0.0638541728), (-0.0894841775, -1.2914855480))
    )
    linear = np.array(
        [
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
        ]
    ).clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055).astype(np.float32)
