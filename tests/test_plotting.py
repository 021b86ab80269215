"""Pictures show what they are given, and reports need no other file."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffae import plotting as report
from diffae.errors import DataError
from diffae.plotting import Report, Tile
from diffae.plotting_figures import curves


def plain(value: int, side: int = 4, caption: str = "") -> Tile:
    return Tile(np.full((side, side, 3), value, np.uint8), caption)


def test_images_of_any_number_of_channels_can_be_looked_at() -> None:
    x = torch.linspace(-1, 1, 5).view(1, 5, 1, 1).expand(1, 5, 2, 2)
    for channels, expected in ((1, [0, 0, 0]), (2, [0, 64, 0]), (3, [0, 64, 128]), (5, [214, 188, 255])):
        (tile,) = report.tiles_of(x[:, :channels], "caption")
        assert tile.pixels[0, 0].tolist() == expected
        assert tile.caption == "caption"


def test_pixels_are_enlarged_by_whole_factors() -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    large = report.enlarge(pixels, 5)
    assert large.shape == (6, 9, 3)
    np.testing.assert_array_equal(large[::3, ::3], pixels)
    assert report.enlarge(np.zeros((200, 200, 3), np.uint8)).shape == (200, 200, 3)


def test_error_map_is_black_without_error_and_saturates_at_a_tenth() -> None:
    x = torch.zeros(3, 1, 4)
    y = x + 2 * torch.tensor([0.0, 0.05, 0.1, 0.5])  # [-1, 1]: twice the error in [0, 1]
    pixels = report.error_tile(x, y).pixels[0].astype(int)
    assert pixels[0].sum() < 10
    assert pixels[0].sum() < pixels[1].sum() < pixels[2].sum()
    assert pixels[2].tolist() == pixels[3].tolist()
    assert report.error_tile(x, y).caption == "error ×10"


def test_tiles_are_spread_evenly_over_rows() -> None:
    rows = report.in_rows([plain(0)] * 11, 10)
    assert [len(row) for row in rows] == [6, 5]
    assert [len(row) for row in report.in_rows([plain(0)] * 9, 9)] == [9]


def test_a_sheet_holds_every_tile_enlarged(tmp_path: Path) -> None:
    page = report.sheet([[plain(10, caption="a"), plain(200)], [plain(90)]])
    pixels = np.asarray(page)
    for value in (10, 200, 90):
        assert (pixels == value).all(axis=2).sum() >= 128 * 128
    report.save_sheet(tmp_path / "new" / "sheet.png", page)
    with Image.open(tmp_path / "new" / "sheet.png") as written:
        assert written.size == page.size


def test_long_captions_stay_within_their_tile() -> None:
    page = np.asarray(report.sheet([[plain(0, caption="an_extraordinarily_long_name_of_a_file.png"), plain(0)]]))
    gap = page[128 + 16 :, 8 + 128 : 8 + 128 + 8]  # below the gap between the two tiles
    assert (gap == 255).all()


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_runs_there_and_back_without_end(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"morph{suffix}"
    report.save_animation(path, [plain(0), plain(80), plain(160), plain(240)])
    with Image.open(path) as image:
        assert getattr(image, "n_frames", 1) == 6  # 0 80 160 240 160 80
        assert image.info["loop"] == 0
        assert min(image.size) >= 256
        shades = []
        for frame in range(6):
            image.seek(frame)
            shades.append(np.asarray(image.convert("L")).mean())
    np.testing.assert_allclose(shades, [0, 80, 160, 240, 160, 80], atol=2)


def test_wrong_suffixes_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the suffix must be one of \.png"):
        report.save_sheet(tmp_path / "a.gif", report.sheet([[plain(0)]]))
    with pytest.raises(DataError, match=r"the suffix must be one of \.gif"):
        report.save_animation(tmp_path / "a.png", [plain(0), plain(1)])
    assert list(tmp_path.iterdir()) == []


class Page(HTMLParser):
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
    page = Report("A <title> & more", "Lead with `code`.")
    page.section("Section")
    page.text("Text")
    page.tiles([[plain(10, caption="one"), plain(20)], [plain(30)]], labels=("first", "second"))
    page.table(("name", "value"), [("a < b", "1.0")])
    page.picture(curves({"loss": ([1, 2], [3.0, 4.0]), "other": ([1], [2.0])}, "x", "y"), "a chart")
    page.animation([plain(0), plain(50), plain(100)])
    page.commands("diffae train 'my photos' --out runs/a")
    page.write(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    parsed = Page(text)
    assert not re.search(r"(src|href)=\"(?!data:)|url\(|@import|https?:", text)
    assert "prefers-color-scheme: dark" in text
    for expected in ("A <title> & more", "code", "a < b", "one", "second", "diffae train 'my photos' --out runs/a"):
        assert expected in parsed.texts
    pictures = [Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) for source in parsed.sources]
    assert [picture.size for picture in pictures[:3]] == [(4, 4)] * 3
    assert [picture.format for picture in pictures] == ["PNG"] * 4 + ["WEBP"]
