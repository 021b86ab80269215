"""Pages need no other file, and show text as text."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from diffae.page import Page
from diffae.plotting import Tile, curves


def tile(value: int, caption: str = "") -> Tile:
    return Tile(np.full((4, 4, 3), value, np.uint8), caption)


class Parsed(HTMLParser):
    """Collects the tags, texts and picture sources of a page; complains about tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.texts: list[str] = []
        self.opened: list[str] = []
        self.feed(text)
        assert self.opened == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.sources.append(dict(attrs)["src"] or "")
        elif tag != "meta":
            self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_report_is_one_file_with_everything_inline(tmp_path: Path) -> None:
    page = Page("A <title> & more", "Lead with `code`.")
    page.section("Section")
    page.text("Text with <b>tags</b>.", small=True)
    page.tiles([[tile(10, caption="one"), tile(20)], [tile(30)]], labels=("first", "second"))
    page.table(("name", "value"), [("a < b", "1.0")])
    page.picture(curves({"loss": ([1, 2], [3.0, 4.0]), "other": ([1], [2.0])}, "x", "y"), "a chart")
    page.animation([tile(0), tile(50), tile(100)])
    page.commands("diffae train 'my photos' --out runs/a")
    page.write(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    parsed = Parsed(text)
    assert not re.search(r"(src|href)=\"(?!data:)|url\(|@import|https?:", text)
    assert "prefers-color-scheme: dark" in text
    for expected in ("A <title> & more", "code", "a < b", "one", "second", "diffae train 'my photos' --out runs/a"):
        assert expected in parsed.texts
    assert "<b>" not in text
    pictures = [Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) for source in parsed.sources]
    assert [picture.size for picture in pictures[:3]] == [(4, 4)] * 3
    assert [picture.format for picture in pictures] == ["PNG"] * 4 + ["WEBP"]
