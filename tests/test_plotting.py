"""Sheets, animations and charts contain what they are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffae import plotting
from diffae.errors import DataError
from diffae.evaluation.statistics import Estimate
from diffae.plotting import Tile


def tile(value: int, side: int = 4, caption: str = "") -> Tile:
    return Tile(np.full((side, side, 3), value, np.uint8), caption)


def test_images_of_any_number_of_channels_become_rgb() -> None:
    x = torch.linspace(-1, 1, 5).view(1, 5, 1, 1).expand(1, 5, 2, 2)
    for channels, expected in ((1, [0, 0, 0]), (2, [0, 64, 0]), (3, [0, 64, 128]), (5, [214, 188, 255])):
        (tile,) = plotting.tiles_of(x[:, :channels], "caption")
        assert tile.pixels[0, 0].tolist() == expected
        assert tile.caption == "caption"


def test_pixels_are_enlarged_by_whole_factors() -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    large = plotting.enlarge(pixels, 5)
    assert large.shape == (6, 9, 3)
    np.testing.assert_array_equal(large[::3, ::3], pixels)
    assert plotting.enlarge(np.zeros((200, 200, 3), np.uint8)).shape == (200, 200, 3)


def test_error_map_is_black_without_error_and_saturates_at_a_tenth() -> None:
    x = torch.zeros(3, 1, 4)
    y = x + 2 * torch.tensor([0.0, 0.05, 0.1, 0.5])  # [-1, 1]: twice the error in [0, 1]
    pixels = plotting.error_tile(x, y).pixels[0].astype(int)
    assert pixels[0].sum() < 10
    assert pixels[0].sum() < pixels[1].sum() < pixels[2].sum()
    assert pixels[2].tolist() == pixels[3].tolist()
    assert plotting.error_tile(x, y).caption == "error ×10"


def test_tiles_are_spread_evenly_over_rows() -> None:
    rows = plotting.in_rows([tile(0)] * 11, 10)
    assert [len(row) for row in rows] == [6, 5]
    assert [len(row) for row in plotting.in_rows([tile(0)] * 9, 9)] == [9]


def test_a_sheet_holds_every_tile_enlarged(tmp_path: Path) -> None:
    page = plotting.sheet([[tile(10, caption="a"), tile(200)], [tile(90)]])
    pixels = np.asarray(page)
    for value in (10, 200, 90):
        assert (pixels == value).all(axis=2).sum() >= 128 * 128
    plotting.save_sheet(tmp_path / "new" / "sheet.png", page)
    with Image.open(tmp_path / "new" / "sheet.png") as written:
        assert written.size == page.size


def test_long_captions_stay_within_their_tile() -> None:
    page = np.asarray(plotting.sheet([[tile(0, caption="an_extraordinarily_long_name_of_a_file.png"), tile(0)]]))
    gap = page[128 + 16 :, 8 + 128 : 8 + 128 + 8]  # below the gap between the two tiles
    assert (gap == 255).all()


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_plays_forwards_and_backwards_forever(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"morph{suffix}"
    plotting.save_animation(path, [tile(0), tile(80), tile(160), tile(240)])
    with Image.open(path) as image:
        assert getattr(image, "n_frames", 1) == 6  # 0 80 160 240 160 80
        assert image.info["loop"] == 0
        assert min(image.size) >= 256
        shades = []
        for frame in range(6):
            image.seek(frame)
            shades.append(np.asarray(image.convert("L")).mean())
    np.testing.assert_allclose(shades, [0, 80, 160, 240, 160, 80], atol=2)


def test_a_video_plays_forwards_and_backwards(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    plotting.save_animation(tmp_path / "morph.mp4", [tile(0, 257), tile(240, 257)])
    with av.open(str(tmp_path / "morph.mp4")) as film:
        frames = [frame.to_ndarray(format="gray") for frame in film.decode(video=0)]
    assert [frame.mean() > 120 for frame in frames] == [False] * 6 + [True] * 6  # it waits at both ends
    assert {frame.shape for frame in frames} == {(258, 258)}


def test_wrong_suffixes_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the suffix must be one of \.png"):
        plotting.save_sheet(tmp_path / "a.gif", plotting.sheet([[tile(0)]]))
    with pytest.raises(DataError, match=r"the suffix must be one of \.gif"):
        plotting.save_animation(tmp_path / "a.png", [tile(0), tile(1)])
    assert list(tmp_path.iterdir()) == []


def test_labels_stand_left_of_their_rows_on_a_transparent_ground() -> None:
    page = np.asarray(plotting.labelled_rows([("first", [tile(10, caption="a")]), ("", [tile(90), tile(200)])]))
    assert page.shape[2] == 4
    assert page[0, 0, 3] == 0
    left = {value: np.argwhere((page[..., :3] == value).all(axis=2) & (page[..., 3] == 255))[:, 1].min()
            for value in (10, 90, 200)}  # fmt: skip
    assert left[10] == left[90] < left[200]
    label = page[: 8 + 80, : left[10]]
    assert label[..., 3].any()
    assert not page[8 + 80 + 20 + 8 :, : left[10], 3].any()  # the second row has no label


def test_charts_draw_each_entry_in_its_colour_with_its_interval() -> None:
    low, high = Estimate(0.2, 0.1, 0.3, 5), Estimate(0.8, 0.7, 0.9, 5)
    charts = (
        plotting.curves({"a": ([1, 2], [low, high]), "b": ([1, 2], [0.5, 0.6])}, "x", "y", logarithmic="xy"),
        plotting.dots({"one": {"a": low, "b": high}, "two": {"b": low}}, "area"),
        plotting.histograms({"a": [0.0, 0.1, 0.2], "b": [0.5, 0.6]}, "distance"),
    )
    for chart in charts:
        pixels = np.asarray(chart).astype(int)
        assert chart.mode == "RGBA"
        for colour in ((0x3B, 0x82, 0xF6), (0xF5, 0x9E, 0x0B)):  # blue and amber
            assert ((abs(pixels[..., :3] - colour).max(axis=2) < 8) & (pixels[..., 3] > 0)).sum() > 20
        on_white = plotting.chart_tile(chart, "caption")
        assert on_white.pixels.shape == (*pixels.shape[:2], 3)
        assert on_white.pixels[0, 0].tolist() == [255, 255, 255]
