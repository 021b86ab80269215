"""An HTML page that needs no other file: headings, tables and pictures."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape
from PIL import Image

from diffae.checkpoint import written_beside
from diffae.plotting import LEAST_SIDE, Tile, animation


class Page:
    """An HTML page in one file: headings, paragraphs, tables and pictures, in the order they are added.

    Text is plain and is escaped; `words in backticks` are set as code, **words between stars** in bold. A browser
    reloads the page every `refresh` seconds, if given.
    """

    def __init__(self, title: str, lead: str = "", *, refresh: int | None = None) -> None:
        self.title, self.lead, self.refresh = title, lead, refresh
        self._blocks: list[dict[str, Any]] = []

    def _add(self, kind: str, **values: Any) -> None:
        self._blocks.append({"kind": kind, **values})

    def section(self, heading: str, anchor: str = "") -> None:
        """Add a heading, with an anchor that `contents` can link to."""
        self._add("section", heading=heading, anchor=anchor)

    def contents(self, entries: Sequence[tuple[str, str]]) -> None:
        """Add links to sections, given as (anchor, text)."""
        self._add("contents", entries=entries)

    def text(self, paragraph: str, *, small: bool = False) -> None:
        """Add a paragraph, in small print where `small`."""
        self._add("text", text=paragraph, small=small)

    def bullets(self, sentences: Sequence[str]) -> None:
        """Add a list of sentences."""
        self._add("bullets", sentences=sentences)

    def commands(self, *lines: str) -> None:
        """Add lines to type into a terminal."""
        self._add("commands", text="\n".join(lines))

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], *, words: bool = False) -> None:
        """Add a table; columns are aligned right except the first, or all left where `words`."""
        self._add("table", header=header, rows=rows, words=words)

    def tiles(self, rows: Sequence[Sequence[Tile]], *, labels: Sequence[str] = (), side: int = LEAST_SIDE) -> None:
        """Add a grid of tiles, each at most `side` pixels wide, with an optional label before each row."""
        drawn = [[(_data_url(Image.fromarray(tile.pixels)), tile.caption) for tile in row] for row in rows]
        self._add("tiles", rows=drawn, labels=labels, side=side, columns=max(map(len, rows)))

    def picture(self, image: Image.Image, caption: str = "", *, width: int | None = None) -> None:
        """Add a picture, `width` pixels wide (its own width when None), or as wide as the page if that is less."""
        self._add("picture", source=_data_url(image), caption=caption, width=width or image.width)

    def animation(self, frames: Sequence[Tile], caption: str = "") -> None:
        """Add an animation; see `diffae.plotting.animation`."""
        source = _data_url(animation(frames), "webp")
        self._add("picture", source=source, caption=caption, width=2 * LEAST_SIDE, pixels=True)

    def write(self, path: str | Path) -> None:
        """Write the page atomically.

        Raises:
            TrainingError: the disk is full, or the folder is not writable.
        """
        template = _TEMPLATES.get_template("report.html.j2")
        html = template.render(title=self.title, lead=self.lead, refresh=self.refresh, blocks=self._blocks)
        with written_beside(Path(path)) as temporary:
            temporary.write_text(html, encoding="utf-8")


def _inline(text: str) -> Markup:
    bold = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", str(escape(text)))
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", bold))


_TEMPLATES = Environment(
    loader=PackageLoader("diffae"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
    keep_trailing_newline=True,
)  # fmt: skip
_TEMPLATES.filters.update(inline=_inline, plain=lambda text: " ".join(text.replace("`", "").split()))


def _data_url(image: Image.Image | bytes, kind: str = "png") -> str:
    if isinstance(image, Image.Image):
        buffer = io.BytesIO()
        image.save(buffer, "PNG", optimize=True)
        image = buffer.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
