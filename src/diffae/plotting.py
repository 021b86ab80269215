"""Pictures and tables from results: sheets of captioned tiles, error maps, animations, and a report in one HTML file.

A tile is a small picture with a caption. Sheets (PNG files) enlarge tiles by whole factors, without smoothing, so that
the pixels of a 32x32 image can be seen for what they are; the HTML report leaves that to the browser.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from diffae.checkpoint import written_beside
from diffae.data.images import to_rgb, to_uint8, to_unit
from diffae.errors import DataError

LEAST_SIDE = 128
"""Tiles of fewer pixels are enlarged to at least this many in sheets."""
ERROR_GAIN = 10.0
"""Error maps show |x - y| times this, images in [0, 1]: white is an error of 0.1 or more."""
ANIMATED = (".gif", ".webp")
STILL = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

_GAP = 8  # pixels between tiles
_LINE = 17  # pixels of one line of a caption
_INK, _PAPER = (60, 60, 64), (255, 255, 255)


@dataclass(frozen=True)
class Tile:
    """A picture with a caption."""

    pixels: UInt[np.ndarray, "h w 3"]
    """uint8 RGB."""
    caption: str = ""
    """Stands below; may have several lines."""


def tiles_of(x: Float[Tensor, "n c h w"], captions: Sequence[str] | str = "") -> list[Tile]:
    """Images in [-1, 1] as tiles, with a caption each, or the same for all."""
    texts = [captions] * len(x) if isinstance(captions, str) else captions
    return [Tile(pixels, text) for pixels, text in zip(to_rgb(to_uint8(x)), texts, strict=True)]


def heat_tile(values: Float[Tensor, "h w"], caption: str = "") -> Tile:
    """A map of numbers in [0, 1] (clipped): black, purple, orange, pale yellow."""
    from matplotlib import colormaps

    colours = colormaps["inferno"](values.detach().float().clamp(0, 1).cpu().numpy())
    return Tile(np.rint(colours[..., :3] * 255).astype(np.uint8), caption)  # float [0, 1] => uint8 [0, 255]


def error_tile(x: Float[Tensor, "c h w"], y: Float[Tensor, "c h w"], caption: str | None = None) -> Tile:
    """|x - y|, mean over the channels, times ERROR_GAIN; x and y in [-1, 1]."""
    error = (to_unit(x.cpu()) - to_unit(y.cpu())).abs().mean(dim=0)
    return heat_tile(error * ERROR_GAIN, f"error ×{ERROR_GAIN:g}" if caption is None else caption)


# ---------------------------------------------------------------------- sheets and animations


def check_suffix(path: Path, allowed: Sequence[str]) -> None:
    """Raise `DataError` unless the file's suffix is one of those allowed."""
    if path.suffix.lower() not in allowed:
        raise DataError(f"cannot write {path.name}: the suffix must be one of {', '.join(allowed)}; rename it")


def enlarge(pixels: UInt[np.ndarray, "h w c"], least: int = LEAST_SIDE) -> UInt[np.ndarray, "h2 w2 c"]:
    """Each pixel as a square of pixels, so many that the shorter side is at least `least`."""
    factor = max(1, -(-least // min(pixels.shape[:2])))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def sheet(rows: Sequence[Sequence[Tile]]) -> Image.Image:
    """Rows of tiles on white paper, each with its caption below."""
    rows = [[Tile(enlarge(tile.pixels), tile.caption) for tile in row] for row in rows]
    widths = [sum(tile.pixels.shape[1] + _GAP for tile in row) for row in rows]
    heights = [max(tile.pixels.shape[0] + _caption_height(tile) for tile in row) + _GAP for row in rows]
    page = Image.new("RGB", (max(widths) + _GAP, sum(heights) + _GAP), _PAPER)
    draw = ImageDraw.Draw(page)
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        left = _GAP
        for tile in row:
            tall, wide = tile.pixels.shape[:2]
            page.paste(Image.fromarray(tile.pixels), (left, top))
            caption = "\n".join(_fitted(line, wide) for line in tile.caption.splitlines())
            draw.text((left + wide / 2, top + tall + 3), caption, _INK, sheet_font(), "ma", align="center")
            left += wide + _GAP
        top += height
    return page


def in_rows(tiles: Sequence[Tile], columns: int) -> list[list[Tile]]:
    """Tiles in rows of at most so many, as even as they can be."""
    columns = -(-len(tiles) // -(-len(tiles) // columns))
    return [list(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]


def save_sheet(path: str | Path, page: Image.Image) -> None:
    """Write a sheet, whole or not at all.

    Raises:
        DataError: a suffix that is not a still picture's.
        TrainingError: the disk is full or the folder cannot be written.
    """
    path = Path(path)
    check_suffix(path, STILL)
    with written_beside(path) as temporary:
        page.save(temporary, Image.registered_extensions()[path.suffix.lower()])


def save_animation(path: str | Path, frames: Sequence[Tile], *, milliseconds: int = 90) -> None:
    """Write frames as a .gif or .webp that runs there and back for ever, resting at both ends; captions are left out.

    Raises:
        DataError: another suffix.
        TrainingError: the disk is full or the folder cannot be written.
    """
    path = Path(path)
    check_suffix(path, ANIMATED)
    with written_beside(path) as temporary:
        temporary.write_bytes(_animation(frames, path.suffix[1:].upper(), milliseconds))


def _animation(frames: Sequence[Tile], kind: str, milliseconds: int) -> bytes:
    there_and_back = [*frames, *frames[-2:0:-1]]
    pictures = [Image.fromarray(enlarge(tile.pixels, 2 * LEAST_SIDE)) for tile in there_and_back]
    ends = (0, len(frames) - 1)
    durations = [6 * milliseconds if index in ends else milliseconds for index in range(len(pictures))]
    if kind == "GIF":
        pictures = [picture.quantize(256, dither=Image.Dither.NONE) for picture in pictures]
    buffer = io.BytesIO()
    first, *others = pictures
    first.save(
        buffer, kind, save_all=True, append_images=others, duration=durations, loop=0, **_ANIMATION_OPTIONS[kind]
    )
    return buffer.getvalue()


_ANIMATION_OPTIONS: dict[str, dict[str, object]] = {"GIF": {"disposal": 1}, "WEBP": {"lossless": True}}


def _caption_height(tile: Tile) -> int:
    return len(tile.caption.splitlines()) * _LINE + (3 if tile.caption else 0)


def _fitted(line: str, width: int) -> str:
    """A line of a caption, its middle left out where it is wider than its tile."""
    shown, half = line, len(line) // 2
    while sheet_font().getlength(shown) > width and half > 1:
        half -= 1
        shown = f"{line[:half]}…{line[-half:]}"
    return shown


@lru_cache
def sheet_font() -> ImageFont.FreeTypeFont:
    """The font of captions: DejaVu Sans, which has the symbols of captions and comes with matplotlib."""
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 13)


# ---------------------------------------------------------------------- one HTML file

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2126; --soft: #646b75; --paper: #fff; --line: #e3e6ea; --code: #f3f4f6 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --soft: #9aa1ab; --paper: #15181c; --line: #2c3138; --code: #20242a }
}
body { margin: 0 auto; padding: 3rem 1.25rem 5rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .5rem; letter-spacing: -.02em }
h2 { font-size: 1.3rem; margin: 3rem 0 .5rem; padding-top: 1.5rem; border-top: 1px solid var(--line) }
p { max-width: 46rem; margin: .6rem 0 }
.lead, figcaption { color: var(--soft) }
.lead { font-size: 1.1rem }
figure { margin: 1.4rem 0; overflow-x: auto }
figcaption { font-size: .85rem; margin-top: .4rem }
figure > img { display: block; max-width: 100%; height: auto }
img.pixels { image-rendering: pixelated; border-radius: 4px }
.tiles { display: grid; gap: 10px; width: max-content; max-width: 100% }
.tiles div { font-size: .8rem; line-height: 1.3; text-align: center; color: var(--soft); white-space: pre-line;
  font-variant-numeric: tabular-nums }
.tiles .label { align-self: center; text-align: left; padding-right: .6rem }
.tiles img { width: 100%; display: block; margin-bottom: 4px }
table { border-collapse: collapse; margin: 1.2rem 0; font-variant-numeric: tabular-nums }
th, td { padding: .35rem 1.2rem .35rem 0; text-align: right; border-bottom: 1px solid var(--line) }
th { font-weight: 600; color: var(--soft) }
th:first-child, td:first-child, .words th, .words td { text-align: left }
.words td { vertical-align: top }
.words td:nth-child(3) { white-space: nowrap }
code, pre { font: .875em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; background: var(--code);
  border-radius: 4px }
code { padding: .1em .3em; overflow-wrap: anywhere }
pre { padding: .8rem 1rem; overflow-x: auto }
.note { color: var(--soft); font-size: .85rem; margin-top: -.6rem }
.wide { overflow-x: auto }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: 1.2rem 0 }
a { color: inherit; text-decoration-color: var(--soft); text-underline-offset: .2em }
@media print {
  :root { --ink: #000; --soft: #555; --paper: #fff; --line: #bbb; --code: #f3f4f6 }
  body { max-width: none; padding: 0; font-size: 10pt }
  nav { display: none }
  figure, tr { break-inside: avoid }
  h2 { break-after: avoid; margin-top: 1.5rem }
}
"""


class Report:
    """An HTML page that needs no other file: headings, paragraphs, tables and pictures, in the order they are added.

    Texts are plain; `words in backticks` are set as code, **words in stars** bold.
    """

    def __init__(self, title: str, lead: str = "") -> None:
        self.title = title
        self._parts = [f"<h1>{_inline(title)}</h1>", f'<p class="lead">{_inline(lead)}</p>' if lead else ""]

    def section(self, heading: str, anchor: str = "") -> None:
        """Begin a new part, which `contents` can point to by its anchor."""
        name = f' id="{_attribute(anchor)}"' if anchor else ""
        self._parts.append(f"<h2{name}>{_inline(heading)}</h2>")

    def contents(self, entries: Sequence[tuple[str, str]]) -> None:
        """Add links to parts, given as (anchor, text)."""
        links = "".join(f'<a href="#{_attribute(anchor)}">{_inline(text)}</a>' for anchor, text in entries)
        self._parts.append(f"<nav>{links}</nav>")

    def note(self, paragraph: str) -> None:
        """Add a paragraph of smaller print."""
        self._parts.append(f'<p class="note">{_inline(paragraph)}</p>')

    def text(self, paragraph: str) -> None:
        """Add a paragraph."""
        self._parts.append(f"<p>{_inline(paragraph)}</p>")

    def commands(self, *lines: str) -> None:
        """Add commands to type."""
        self._parts.append(f"<pre>{html.escape(chr(10).join(lines))}</pre>")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], *, words: bool = False) -> None:
        """Add a table; the first column is set left, the others right, or with `words` left too."""
        head = "".join(f"<th>{_inline(cell)}</th>" for cell in header)
        body = "".join(f"<tr>{''.join(f'<td>{_inline(cell)}</td>' for cell in row)}</tr>" for row in rows)
        kind = ' class="words"' if words else ""
        inner = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
        self._parts.append(f'<div class="wide"><table{kind}>{inner}</table></div>')

    def tiles(self, rows: Sequence[Sequence[Tile]], *, labels: Sequence[str] = (), side: int = LEAST_SIDE) -> None:
        """Add a grid of tiles, `side` pixels wide where there is room for them; `labels` stand before the rows."""
        cells = []
        columns = max(len(row) for row in rows)
        for index, row in enumerate(rows):
            cells += [f'<div class="label">{_inline(labels[index])}</div>'] if labels else []
            cells += [f"<div>{_tile_image(tile)}{_inline(tile.caption)}</div>" for tile in row]
            cells += ["<div></div>"] * (columns - len(row))
        template = f"{'max-content ' if labels else ''}repeat({columns},minmax(0,{side}px))"
        grid = f'<div class="tiles" style="grid-template-columns:{template}">{"".join(cells)}</div>'
        self._parts.append(f"<figure>{grid}</figure>")

    def picture(self, image: Image.Image, caption: str = "", *, width: int | None = None) -> None:
        """Add a picture, `width` pixels wide (its own width when None) or as wide as the page."""
        size = f' width="{width or image.width}"'
        source = _data_url(_png(image), "image/png")
        self._parts.append(
            f'<figure><img src="{source}"{size} alt="{_attribute(caption)}">{_figcaption(caption)}</figure>'
        )

    def animation(self, frames: Sequence[Tile], caption: str = "") -> None:
        """Add frames that run there and back."""
        source = _data_url(_animation(frames, "WEBP", 90), "image/webp")
        image = f'<img class="pixels" src="{source}" width="{2 * LEAST_SIDE}" alt="{_attribute(caption)}">'
        self._parts.append(f"<figure>{image}{_figcaption(caption)}</figure>")

    def write(self, path: str | Path) -> None:
        """Write the page, whole or not at all.

        Raises:
            TrainingError: the disk is full or the folder cannot be written.
        """
        head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        head += f"<title>{html.escape(self.title)}</title><style>{_STYLE}</style>"
        body = "\n".join(part for part in self._parts if part)
        page = f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'
        with written_beside(Path(path)) as temporary:
            temporary.write_text(page, encoding="utf-8")


def _inline(text: str) -> str:
    bold = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", html.escape(text))
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", bold)


def _attribute(text: str) -> str:
    return html.escape(" ".join(text.replace("`", "").split()))


def _figcaption(caption: str) -> str:
    return f"<figcaption>{_inline(caption)}</figcaption>" if caption else ""


def _tile_image(tile: Tile) -> str:
    source = _data_url(_png(Image.fromarray(tile.pixels)), "image/png")
    return f'<img class="pixels" src="{source}" alt="{_attribute(tile.caption)}">'


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _data_url(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
