"""Image files, arrays and tensors: exact pixels, value ranges, and one-line errors."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageOps, features
from volumes import smooth, write_png16

from diffae.config import InputConfig
from diffae.data import images
from diffae.data.formats.files import read_picture
from diffae.errors import DataError

SIZE = (20, 12)  # width, height


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_every_format_in_colour_and_gray(tmp_path: Path, suffix: str, mode: str) -> None:
    source = Image.fromarray(smooth()).convert(mode)
    path = tmp_path / f"a.{suffix}"
    source.save(path, quality=95)
    expected = np.asarray(source).reshape(12, 20, -1).astype(int)
    got = images.load_image(path, channels=expected.shape[2])
    assert got.dtype == np.uint8
    assert np.abs(got - expected).mean() <= (8 if suffix in ("jpg", "webp") else 0)


def test_gray_and_colour_are_converted_into_each_other(tmp_path: Path) -> None:
    Image.fromarray(smooth()).save(tmp_path / "a.png")
    gray = images.load_image(tmp_path / "a.png", channels=1)
    assert np.abs(gray[..., 0].astype(int) - np.asarray(Image.fromarray(smooth()).convert("L"))).max() <= 1
    Image.fromarray(gray[..., 0]).save(tmp_path / "g.png")
    assert np.array_equal(images.load_image(tmp_path / "g.png", channels=3), np.repeat(gray, 3, axis=2))


def test_transparency_is_blended_with_the_background(tmp_path: Path) -> None:
    rgba = np.zeros((2, 3, 4), np.uint8)
    rgba[0, :, 0], rgba[0, :, 3] = 200, (0, 51, 255)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    over_white = images.load_image(tmp_path / "a.png")
    assert over_white[0].tolist() == [[255, 255, 255], [244, 204, 204], [200, 0, 0]]
    over_blue = images.load_image(tmp_path / "a.png", background=(0, 0, 255))
    assert over_blue[0, :, 2].tolist() == [255, 204, 0]
    assert images.load_image(tmp_path / "a.png", channels=1, background=(0, 0, 255))[0, 0, 0] == 29  # luma of blue
    assert np.array_equal(images.load_image(tmp_path / "a.png", channels=4), rgba)


def test_palette_with_and_without_transparency(tmp_path: Path) -> None:
    source = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), mode=None)
    source.putpalette([10, 20, 30, 200, 100, 0, 0, 0, 255])
    source.save(tmp_path / "opaque.png")
    source.save(tmp_path / "clear.png", transparency=bytes([0, 255, 0]))
    assert images.load_image(tmp_path / "opaque.png")[0].tolist() == [[10, 20, 30], [200, 100, 0]]
    clear = images.load_image(tmp_path / "clear.png", background=(1, 2, 3))
    assert clear.reshape(-1, 3).tolist() == [[1, 2, 3], [200, 100, 0], [1, 2, 3], [200, 100, 0]]


def test_cmyk_jpeg(tmp_path: Path) -> None:
    source = Image.fromarray(smooth()).convert("CMYK")
    source.save(tmp_path / "a.jpg", quality=100)
    got = images.load_image(tmp_path / "a.jpg")
    assert np.abs(got.astype(int) - smooth()).max() < 12


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(smooth()).save(path, exif=exif, quality=100)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert expected.shape == ((20, 12, 3) if orientation > 4 else (12, 20, 3))
    assert np.array_equal(images.load_image(path), expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["png", "tif", "deflated tif", "big-endian tif"])
def test_sixteen_bits_are_all_kept(tmp_path: Path, rng: np.random.Generator, channels: int, kind: str) -> None:
    pixels = rng.integers(0, 65536, (12, 20, channels), dtype=np.uint16)
    path = tmp_path / f"a.{kind.split()[-1]}"
    if kind == "png":
        write_png16(path, pixels)
    else:
        squeezed = pixels[..., 0] if channels == 1 else pixels
        tifffile.imwrite(
            path,
            squeezed,
            photometric="rgb" if channels == 3 else "minisblack",
            compression="zlib" if "deflated" in kind else None,
            byteorder=">" if "big" in kind else "<",
        )
    got = images.load_image(path, channels=channels)
    assert got.dtype == np.uint16
    assert np.array_equal(got, pixels)


@pytest.mark.parametrize("channels", [2, 4])
def test_sixteen_bits_with_alpha(tmp_path: Path, rng: np.random.Generator, channels: int) -> None:
    pixels = rng.integers(0, 65536, (12, 20, channels), dtype=np.uint16)
    write_png16(tmp_path / "a.png", pixels)
    assert np.array_equal(images.load_image(tmp_path / "a.png", channels=channels), pixels)
    flat = images.load_image(tmp_path / "a.png", channels=channels - 1, background=(0, 0, 0))
    expected = pixels[..., :-1].astype(float) * (pixels[..., -1:] / 65535)
    assert flat.dtype == np.uint16
    assert np.abs(flat - expected).max() < 1


def test_sixteen_bits_survive_resizing(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    got = images.load_image(tmp_path / "a.png", channels=1, size=16)
    assert got.dtype == np.uint16
    boxes = ramp.reshape(16, 4, 16, 4).mean(axis=(1, 3))
    assert np.abs(got[2:-2, 2:-2, 0] - boxes[2:-2, 2:-2]).max() < 100  # a 256th of the range would be 256
    assert len(np.unique(got)) > 200


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("layout", ["last", "first", "pages"])
def test_tiff_of_five_channels(tmp_path: Path, rng: np.random.Generator, dtype: type, layout: str) -> None:
    pixels = rng.integers(0, np.iinfo(dtype).max, (12, 20, 5), dtype=dtype)
    planes = np.moveaxis(pixels, 2, 0)
    if layout == "last":
        tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", planarconfig="contig")
    elif layout == "first":
        tifffile.imwrite(tmp_path / "a.tif", planes, photometric="minisblack", planarconfig="separate")
    else:
        tifffile.imwrite(tmp_path / "a.tif", planes, photometric="minisblack")
    assert np.array_equal(images.load_image(tmp_path / "a.tif", channels=5), pixels)
    pages = layout == "pages"
    message = "holds 5 images; name .*, or set channels to 5" if pages else "has 5 channels, 3 are wanted; set"
    with pytest.raises(DataError, match=message):
        images.load_image(tmp_path / "a.tif", channels=3)


def test_npy_image_keeps_its_channels(tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 65535, (8, 8, 7), dtype=np.uint16)
    np.save(tmp_path / "a.npy", pixels)
    assert np.array_equal(images.load_image(tmp_path / "a.npy", channels=7, size=8), pixels)
    assert images.load_image(tmp_path / "a.npy", channels=7, size=4).shape == (4, 4, 7)
    np.save(tmp_path / "f.npy", pixels.astype(np.float32))
    with pytest.raises(DataError, match=r"float32, pixels must be uint8 or uint16"):
        images.load_image(tmp_path / "f.npy", channels=7)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize(
    ("mode", "suffix"), [("RGB", "png"), ("L", "png"), ("P", "png"), ("1", "png"), ("RGBA", "png"), ("CMYK", "jpg")]
)
def test_reading_at_a_size_equals_fitting_the_whole_image(
    tmp_path: Path, rng: np.random.Generator, mode: str, suffix: str, orientation: int, channels: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    noise = rng.integers(0, 256, (97, 110, 4 if mode in ("RGBA", "CMYK") else 3), dtype=np.uint8)
    image = Image.fromarray(noise, mode) if noise.shape[2] == 4 else Image.fromarray(noise).convert(mode)
    image.save(tmp_path / f"a.{suffix}", exif=exif)
    whole = read_picture((tmp_path / f"a.{suffix}").read_bytes(), "a")
    for size in (16, 53, 97):  # an average of whole boxes first; Lanczos alone; neither
        expected = images.fit_picture(whole, "a", images.ImageSpec(channels, size))
        got = images.load_image(tmp_path / f"a.{suffix}", channels, size)
        if suffix == "png" or size > 48:  # smaller ones are decoded from fewer coefficients
            assert np.array_equal(got, expected)


def test_large_jpeg_decoded_at_reduced_scale_looks_the_same(tmp_path: Path) -> None:
    Image.fromarray(smooth(512, 400)).save(tmp_path / "a.jpg", quality=95)
    quick = images.load_image(tmp_path / "a.jpg", size=16)
    full = images.load_image(tmp_path / "a.jpg", size=16, crop=(56, 0, 456, 400))
    assert np.abs(quick.astype(int) - full).max() <= 3


def test_crop_boxes(tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (218, 178, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(images.load_image(tmp_path / "a.png", crop="celeba"), pixels[57:185, 25:153])
    assert np.array_equal(images.load_image(tmp_path / "a.png", crop=(1, 2, 5, 10)), pixels[2:10, 1:5])
    with pytest.raises(DataError, match=r"is 178x218, the crop \(0, 0, 200, 10\) must lie inside"):
        images.load_image(tmp_path / "a.png", crop=(0, 0, 200, 10))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp"])
@pytest.mark.parametrize("part", [0.4, 0.9])
def test_truncated_files(tmp_path: Path, rng: np.random.Generator, suffix: str, part: float) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(DataError, match=rf"a\.{suffix}: (is damaged or truncated|is not a).*; (replace|remove)"):
        images.load_image(path)


def test_truncated_tiff_of_many_channels(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "a.tif"
    pixels = rng.integers(0, 256, (40, 40, 5), dtype=np.uint8)
    tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig")
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(DataError, match=r"a\.tif: is damaged or truncated"):
        images.load_image(path, channels=5)


@pytest.mark.parametrize("content", [b"", b"hello, this is text", b"GIF89a" + bytes(20), b"II*\0" + bytes(20)])
def test_not_images(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png: is (not a JPEG|damaged)"):
        images.load_image(tmp_path / "a.png")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.png: cannot be opened .*; check the path"):
        images.load_image(tmp_path / "no.png")


@pytest.mark.parametrize("factor", [1.5, 4])  # Pillow warns of the first and refuses the second
@pytest.mark.parametrize("channels", [1, 5])
def test_decompression_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float, channels: int) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    pixels = np.zeros((int(1000 * factor) // 10, 10, channels), np.uint8)
    path = tmp_path / ("a.png" if channels == 1 else "a.tif")
    if channels == 1:
        Image.fromarray(pixels[..., 0]).save(path)
    else:
        tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig")
    with pytest.raises(DataError, match=r"more than the limit of 1000 pixels .*; make it smaller first"):
        images.load_image(path, channels=channels)


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint32])
def test_other_types_need_a_window(tmp_path: Path, dtype: type) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.full((8, 8), 3, dtype))
    with pytest.raises(DataError, match=rf"{dtype.__name__}, pixels must be uint8 or uint16 .*; give --window auto"):
        images.load_image(tmp_path / "a.tif", channels=1)
    got = images.load_image(tmp_path / "a.tif", channels=1, window=((0.0, 4.0),))
    assert got.dtype == np.uint16
    assert (got == round(0.75 * 65535)).all()


def test_a_window_of_colours_and_of_their_gray(tmp_path: Path) -> None:
    Image.fromarray(smooth()).save(tmp_path / "a.png")
    window = ((0.0, 510.0), (0.0, 255.0), (100.0, 200.0))
    got = images.load_image(tmp_path / "a.png", window=window)
    expected = (smooth() - [0, 0, 100.0]).clip(0, [510, 255, 100]) / [510, 255, 100] * 65535
    assert np.abs(got - expected).max() <= 0.5
    gray = images.load_image(tmp_path / "a.png", channels=1, window=((0.0, 255.0),))
    assert np.abs(gray[..., 0] / 257 - np.asarray(Image.fromarray(smooth()).convert("L"))).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_ranges_go_there_and_back(dtype: type) -> None:
    top = np.iinfo(dtype).max

    def back(x: torch.Tensor) -> np.ndarray:
        return images.to_samples(x, InputConfig(), np.dtype(dtype).name)

    values = np.arange(top + 1, dtype=dtype).reshape(1, -1, 16, 1)
    x = images.to_tensor(values)
    assert x.dtype == torch.float32
    assert x.shape == (1, 1, (top + 1) // 16, 16)
    assert (x.min().item(), x.max().item()) == (-1.0, 1.0)
    assert np.array_equal(back(x), values)
    unit = images.to_unit(x)
    assert (unit.min().item(), unit.max().item()) == (0.0, 1.0)
    assert back(torch.tensor([[[[-7.0, 7.0]]]])).ravel().tolist() == [0, top]
    assert np.array_equal(images.to_uint8(x), np.rint(values / (top / 255)))


def test_to_tensor_moves_the_channels() -> None:
    pixels = smooth()
    assert images.to_tensor(pixels)[0, 2, 3, 4].item() == pytest.approx(pixels[3, 4, 2] / 127.5 - 1)


def test_save_image(tmp_path: Path, rng: np.random.Generator) -> None:
    for shape, dtype, name in [
        ((9, 7, 3), np.uint8, "a.png"),
        ((9, 7, 1), np.uint8, "a.bmp"),
        ((9, 7, 4), np.uint8, "deep/er/a.png"),
        ((9, 7, 1), np.uint16, "a16.png"),
        ((9, 7, 3), np.uint16, "a16.tif"),
        ((9, 7, 6), np.uint16, "a6.tif"),
        ((9, 7, 4), np.uint8, "rgba.tif"),
        ((1, 7, 1), np.uint8, "row.tif"),
        ((9, 7, 6), np.uint8, "a6.npy"),
    ]:
        pixels = rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype)
        images.save_image(tmp_path / name, pixels)
        assert np.array_equal(images.load_image(tmp_path / name, channels=shape[2]), pixels), name
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=r"uint16 with 3 channels to a \.png file"):
        images.save_image(tmp_path / "b.png", np.zeros((4, 4, 3), np.uint16))
    with pytest.raises(DataError, match="suffix must be one of"):
        images.save_image(tmp_path / "b.xyz", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(DataError, match=r"cannot write .*; change the suffix"):
        images.save_image(tmp_path / "b.jpg", np.zeros((4, 4, 4), np.uint8))
    assert sorted(tmp_path.rglob("*")) == before


def test_as_batch_accepts_images_of_every_kind(tmp_path: Path) -> None:
    pixels = smooth(16, 16)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = images.to_tensor(pixels)
    mixed = [Image.fromarray(pixels), tmp_path / "a.png", str(tmp_path / "a.png"), pixels, pixels[None], expected]
    batch = images.as_batch([*mixed, expected[0].double()], 16, 3)
    assert batch.shape == (7, 3, 16, 16)
    assert batch.dtype == torch.float32
    assert torch.equal(batch, expected.expand(7, -1, -1, -1))
    assert torch.equal(images.as_batch(np.stack([pixels, pixels]), 16, 3), expected.expand(2, -1, -1, -1))
    assert images.as_batch(pixels[..., 0], 16, 1).shape == (1, 1, 16, 16)
    assert images.as_batch(pixels[..., 0].astype(np.uint16) * 257, 16, 1).max() == 1
    for wrong_size in (smooth(40, 24), Image.fromarray(smooth(40, 24))):
        assert images.as_batch(wrong_size, 16, 3).shape == (1, 3, 16, 16)


def test_as_batch_applies_orientation_and_alpha_of_pillow_images() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    buffer = BytesIO()
    Image.fromarray(smooth(16, 16)).save(buffer, "PNG", exif=exif)
    turned = images.as_batch(Image.open(buffer), 16, 3)
    assert torch.equal(turned, images.to_tensor(smooth(16, 16)).flip(2, 3))
    clear = Image.fromarray(np.zeros((16, 16, 4), np.uint8))
    assert torch.equal(images.as_batch(clear, 16, 3), torch.ones(1, 3, 16, 16))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "list of images is empty"),
        (torch.zeros(3, 8, 8), r"shape \(3, 8, 8\) must have shape \(b, 3, 16, 16\)"),
        (torch.full((3, 16, 16), 1.01), r"spans 1.01..1.01, it must lie in \[-1, 1\]"),
        (torch.full((3, 16, 16), torch.nan), "spans nan"),
        (np.zeros((16, 16, 3)), "image given: samples are float64"),
        (np.zeros((0, 16, 16, 3), np.uint8), r"array of shape \(0, 16, 16, 3\)"),
        (np.zeros((16, 16, 4), np.uint8), "has 4 channels, 3 are wanted"),
    ],
)
def test_as_batch_refuses(value, message: str) -> None:
    with pytest.raises(DataError, match=message):
        images.as_batch(value, 16, 3)


def test_as_batch_reads_a_lazily_opened_image_that_is_truncated() -> None:
    buffer = BytesIO()
    Image.fromarray(smooth(64, 64)).save(buffer, "JPEG")
    with pytest.raises(DataError, match=r"image given: is damaged or truncated \("):
        images.as_batch(Image.open(BytesIO(buffer.getvalue()[:-300])), 16, 3)


def test_as_batch_refuses_other_types() -> None:
    wrong: Any = 7
    with pytest.raises((DataError, TypeError), match="image"):  # TypeError: where tests check annotations
        images.as_batch(wrong, 16, 3)


def test_as_batch_forgives_rounding() -> None:
    assert images.as_batch(torch.full((3, 16, 16), 1.0005), 16, 3).shape == (1, 3, 16, 16)


def test_as_batch_leaves_an_image_unchanged_that_was_cropped_before(tmp_path: Path) -> None:
    whole, crop = smooth(40, 20), (10, 0, 26, 16)
    ready = whole[:16, 10:26]
    Image.fromarray(ready).save(tmp_path / "ready.png")
    for given in (whole, ready, Image.fromarray(whole), Image.fromarray(ready), tmp_path / "ready.png"):
        assert torch.equal(images.as_batch(given, 16, 3, crop=crop), images.to_tensor(ready))
    with pytest.raises(DataError, match=r"is 15x15, the crop .* must lie inside"):
        images.as_batch(ready[:15, :15], 16, 3, crop=crop)


def test_as_batch_blends_transparency_with_the_background(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((16, 16, 4), np.uint8)).save(tmp_path / "clear.png")
    black = images.as_batch([tmp_path / "clear.png", Image.open(tmp_path / "clear.png")], 16, 3, background=(0, 0, 0))
    assert torch.equal(black, -torch.ones(2, 3, 16, 16))


def test_samples_of_a_model_without_window() -> None:
    x = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).view(1, 1, 1, 5)
    assert images.to_samples(x, InputConfig()).ravel().tolist() == [0, 0, 128, 255, 255]
    assert images.to_samples(x, InputConfig(dtype="uint16")).ravel().tolist() == [0, 0, 32768, 65535, 65535]
    assert images.to_samples(x, InputConfig(), "uint16").dtype == np.uint16


def test_false_colours() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3), np.uint8)
    np.testing.assert_array_equal(images.to_rgb(pixels), pixels)
    gray = images.to_rgb(pixels[..., :1])
    np.testing.assert_array_equal(gray, pixels[..., :1].repeat(3, axis=3))
    two = images.to_rgb(pixels[..., :2])  # magenta and green
    np.testing.assert_array_equal(two, pixels[..., [0, 1, 0]])
    for channels in (4, 5, 9):
        lights = np.zeros((channels + 2, 1, 1, channels), np.uint8)
        lights[range(channels), 0, 0, range(channels)] = 255
        lights[-1] = 255
        colours = images.to_rgb(lights).reshape(-1, 3)
        assert len(np.unique(colours, axis=0)) == channels + 2
        assert (colours[:channels].max(axis=1) == 255).all()
        assert (colours[-2].tolist(), colours[-1].tolist()) == ([0, 0, 0], [255, 255, 255])


def test_old_names_warn() -> None:
    for old, new in (("Origin", "ImageMetadata"), ("origin_of", "metadata_of")):
        with pytest.warns(DeprecationWarning, match=f"{old} is now {new}"):
            assert getattr(images, old) is getattr(images, new)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.dcm", "a"])
def test_only_regular_files_are_opened(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)  # reading it would wait for ever
    with pytest.raises(DataError, match="is not a regular file; save it as one"):
        images.load_image(tmp_path / name)
    assert images.metadata_of(tmp_path / name) is None


@pytest.mark.parametrize(("suffix", "tolerance"), [("gif", 0), ("avif", 12)])
def test_the_first_picture_of_a_gif_or_avif(tmp_path: Path, suffix: str, tolerance: int) -> None:
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    gray = np.repeat(np.arange(0, 160, 10, dtype=np.uint8)[:, None, None], 16, axis=1).repeat(3, axis=2)
    first, second = Image.fromarray(gray), Image.fromarray(255 - gray)
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[second])
    read = images.load_image(tmp_path / f"a.{suffix}")
    assert np.abs(read.astype(int) - gray).max() <= tolerance
    assert images.metadata_of(tmp_path / f"a.{suffix}") == images.ImageMetadata("png", "uint8", (16, 16))
