"""Figures of a report: sheets of labelled rows, curves and dots with intervals; on transparent ground."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from PIL import Image, ImageDraw

from diffae.evaluation.statistics import Estimate
from diffae.plotting import Tile, enlarge, sheet_font

SIDE = 80
"""Tiles of fewer pixels are enlarged to at least this many."""

_GAP = 6
_LINE = 17
_INK = (128, 132, 140, 255)  # to be read on white and on black
_COLOURS = ("#3b82f6", "#f59e0b", "#10b981", "#ef4444", "#8b5cf6", "#14b8a6", "#ec4899", "#84cc16")
_GRAY = "#80848c"


def labelled_rows(rows: Sequence[tuple[str, Sequence[Tile]]], side: int = SIDE) -> Image.Image:
    """Rows of tiles, each with its label before it; captions stand below the tiles."""
    font = sheet_font()
    enlarged = [[Tile(enlarge(tile.pixels, side), tile.caption) for tile in tiles] for _, tiles in rows]
    margin = max((int(font.getlength(line)) for label, _ in rows for line in label.splitlines()), default=0)
    margin += 2 * _GAP if margin else _GAP
    heights = [max(t.pixels.shape[0] + _below(t) for t in tiles) + _GAP for tiles in enlarged]
    width = margin + max(sum(t.pixels.shape[1] + _GAP for t in tiles) for tiles in enlarged)
    page = Image.new("RGBA", (width, sum(heights) + _GAP), (0, 0, 0, 0))
    draw = ImageDraw.Draw(page)
    top = _GAP
    for (label, _), tiles, height in zip(rows, enlarged, heights, strict=True):
        middle = top + (height - _GAP - max(map(_below, tiles))) / 2
        draw.text((_GAP, middle), label, _INK, font, "lm")
        left = margin
        for tile in tiles:
            tall, wide = tile.pixels.shape[:2]
            page.paste(Image.fromarray(tile.pixels), (left, top))
            draw.text((left + wide / 2, top + tall + 3), tile.caption, _INK, font, "ma", align="center")
            left += wide + _GAP
        top += height
    return page


def _below(tile: Tile) -> int:
    return len(tile.caption.splitlines()) * _LINE + (3 if tile.caption else 0)


Curve = tuple[Sequence[float], Sequence[float | Estimate]]
"""x, and y with or without intervals."""


def curves(lines: Mapping[str, Curve], x_label: str, y_label: str, *, logarithmic: str = "") -> Image.Image:
    """Curves with their intervals shaded; `logarithmic` names axes, for instance "y" or "xy"."""
    figure, axes = _axes()
    for (name, (x, y)), colour in zip(lines.items(), cycle(_COLOURS), strict=False):
        values = [value.value if isinstance(value, Estimate) else value for value in y]
        axes.plot(x, values, label=name, color=colour, linewidth=1.8, marker="o" if len(x) < 12 else None, markersize=4)
        if all(isinstance(value, Estimate) for value in y):
            low, high = np.array([(value.low, value.high) for value in y if isinstance(value, Estimate)]).T
            axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    for axis in logarithmic:
        getattr(axes, f"set_{axis}scale")("log")
    first = next(iter(lines.values()))[0]
    if len(first) < 6:
        axes.set_xticks(first, [f"{value:g}" for value in first])
        if "x" in logarithmic:
            axes.minorticks_off()
    return _drawn(figure, axes, x_label, y_label, legend=len(lines) > 1)


def dots(groups: Mapping[str, Mapping[str, Estimate]], x_label: str) -> Image.Image:
    """For each group a row with a dot for each of its entries, its interval through it; colours tell entries apart."""
    names = list(dict.fromkeys(name for entries in groups.values() for name in entries))
    figure, axes = _axes(1.0 + 0.38 * len(groups))
    for place, (name, colour) in enumerate(zip(names, cycle(_COLOURS), strict=False)):
        rows = [row for row, entries in enumerate(groups.values()) if name in entries]
        found = [entries[name] for entries in groups.values() if name in entries]
        y = [row + 0.6 * ((place + 0.5) / len(names) - 0.5) for row in rows]
        axes.hlines(y, [one.low for one in found], [one.high for one in found], color=colour, linewidth=1.2, alpha=0.7)
        axes.plot([one.value for one in found], y, "o", color=colour, markersize=4.5, label=name)
    axes.set_yticks(range(len(groups)), list(groups))
    axes.set_ylim(len(groups) - 0.4, -0.6)
    return _drawn(figure, axes, x_label, "", legend=len(names) > 1)


def histograms(samples: Mapping[str, Sequence[float]], x_label: str, bins: int = 30) -> Image.Image:
    """How often which value occurs, in several samples, over the same bins."""
    figure, axes = _axes(2.8)
    edges = np.histogram_bin_edges(np.concatenate([np.asarray(values) for values in samples.values()]), bins).tolist()
    for (name, values), colour in zip(samples.items(), cycle(_COLOURS), strict=False):
        weights = np.full(len(values), 1 / len(values))
        axes.hist(values, edges, weights=weights, histtype="stepfilled", alpha=0.35, color=colour, label=name)
    return _drawn(figure, axes, x_label, "share of images", legend=len(samples) > 1)


def _axes(height: float = 3.2):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, height), dpi=160, layout="constrained")
    return figure, figure.add_subplot()


def _drawn(figure, axes, x_label: str, y_label: str, *, legend: bool) -> Image.Image:
    axes.set_xlabel(x_label, color=_GRAY)
    axes.set_ylabel(y_label, color=_GRAY)
    axes.tick_params(which="both", colors=_GRAY)
    axes.grid(axis="both", color=_GRAY, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    if legend:
        figure.legend(loc="outside upper center", ncols=4, frameon=False, labelcolor=_GRAY, fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", transparent=True)
    return Image.open(buffer)
