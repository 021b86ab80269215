"""Images are written with the type, range and metadata of their source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from volumes import planes, write_dicom, write_png16

from diffae.config import InputConfig
from diffae.data import images
from diffae.data.formats.metadata import ImageMetadata


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_a_file_is_read_by_the_window_and_written_in_its_own_range(tmp_path: Path, dtype: str) -> None:
    values = planes(1, dtype, 100, 4000)[0]
    tifffile.imwrite(tmp_path / "a.tif", values)
    given = InputConfig(window=((100.0, 4000.0),), dtype="uint8")
    x = images.as_batch(tmp_path / "a.tif", 8, 1, crop=(0, 0, 8, 8), window=given.window)
    assert x.shape == (1, 1, 8, 8)
    expected = (values[:, :8].astype(float) - 100) / 3900 * 2 - 1
    np.testing.assert_allclose(x[0, 0].numpy(), expected, atol=2e-5)
    metadata = images.metadata_of(tmp_path / "a.tif")
    assert metadata is not None
    samples = images.to_samples(x, given, metadata.dtype)[0]
    images.save_image(tmp_path / "b.tif", samples, metadata.fitted((0, 0, 8, 8), 8))
    back = tifffile.imread(tmp_path / "b.tif")
    assert back.dtype == dtype
    np.testing.assert_allclose(back, values[:, :8], atol=0.05 if dtype == "float32" else 0)


def tags(path: Path) -> dict[int, object]:
    with tifffile.TiffFile(path) as file:
        return {tag.code: tag.value for tag in file.pages.first.tags}


def test_tags_of_a_tiff_return(tmp_path: Path) -> None:
    texts = [(306, "s", 0, "2026:01:02 03:04:05", True), (315, "s", 0, "A. Scientist", True)]
    tifffile.imwrite(
        tmp_path / "a.tif", planes(1, "uint16", 0, 9, shape=(12, 20))[0], resolution=(400.0, 300.0), metadata=None,
        resolutionunit=2, description="liver, section 7", software="a scanner", extratags=texts,
    )  # fmt: skip
    metadata = images.metadata_of(tmp_path / "a.tif")
    assert metadata is not None
    fitted = metadata.fitted((4, 0, 16, 12), 6)  # 12 pixels become 6
    images.save_image(tmp_path / "b.tif", np.zeros((6, 6, 1), np.uint16), fitted)
    got = tags(tmp_path / "b.tif")
    assert (got[270], got[305], got[306], got[315]) == (
        "liver, section 7", "a scanner", "2026:01:02 03:04:05", "A. Scientist",
    )  # fmt: skip
    assert (got[282], got[283], got[296]) == ((200, 1), (150, 1), 2)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_texts_of_a_tiff_that_are_not_ascii_return(tmp_path: Path, encoding: str) -> None:
    copyright_ = "© 2020 José"
    texts = [(33432, "s", 0, copyright_.encode(encoding), True)]
    tifffile.imwrite(tmp_path / "a.tif", planes(1, "uint16", 0, 9)[0], metadata=None, extratags=texts)
    images.save_image(tmp_path / "b.tif", np.zeros((6, 6, 1), np.uint16), images.metadata_of(tmp_path / "a.tif"))
    assert tags(tmp_path / "b.tif")[33432] == copyright_


@pytest.mark.parametrize("description", ["img 3", "20 µm, β-actin, 細胞", ""])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_description_of_a_tiff_of_tifffile_returns_alone(tmp_path: Path, description: str, channels: int) -> None:
    """tifffile adds a second description, of the shape."""
    shape = (8, 8) if channels == 1 else (channels, 8, 8)
    values, text = planes(1, "uint16", 0, 9, shape=shape)[0], description.encode() or None
    tifffile.imwrite(tmp_path / "a.tif", values, description=text, photometric="minisblack")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_shaped
    metadata = images.metadata_of(tmp_path / "a.tif")
    assert metadata is not None
    assert metadata.description == description
    images.save_image(tmp_path / "b.tif", np.zeros((6, 6, channels), np.uint16), metadata.fitted(None, 6))
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        found = [tag.value for page in file.pages for tag in page.tags if tag.code == 270]  # pyright: ignore[reportAttributeAccessIssue]
    assert found == [description] * (description != "")
    images.save_image(tmp_path / "c.tif", np.zeros((6, 6, 2), np.uint16))
    assert 270 not in tags(tmp_path / "c.tif")


def test_an_imagej_stack_of_channels_returns_as_one(tmp_path: Path) -> None:
    values = planes(1, "uint16", 0, 999, shape=(2, 12, 12))[0]
    notes = {"Info": "cell 7", "Labels": ["nucleus", "marker"], "Ranges": (0.0, 800.0, 10.0, 999.0)}
    about = {"axes": "CYX", "unit": "um", "ROI": b"Iout", **notes}
    tifffile.imwrite(tmp_path / "a.tif", values, imagej=True, resolution=(1.5, 1.5), metadata=about)
    metadata = images.metadata_of(tmp_path / "a.tif")
    assert metadata is not None
    small = values.transpose(1, 2, 0)[:6, :6]
    images.save_image(tmp_path / "b.tif", small, metadata.fitted(None, 6))
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.series[0].axes == "CYX"
        assert file.is_imagej
        facts = file.imagej_metadata or {}
        assert (facts["channels"], facts["images"], facts["unit"]) == (2, 2, "um")
        assert {name: facts.get(name) for name in notes} == notes
        assert "ROI" not in facts  # its place is another when the image is scaled
        np.testing.assert_array_equal(file.asarray().transpose(1, 2, 0), small)
    assert tags(tmp_path / "b.tif")[282] == (3, 4)  # 12 pixels became 6
    np.testing.assert_array_equal(images.load_image(tmp_path / "b.tif", channels=2), small)


def test_the_pixel_size_of_an_ome_tiff_returns_without_its_layout(tmp_path: Path) -> None:
    about = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}
    tifffile.imwrite(tmp_path / "a.tif", planes(1, "uint16", 0, 9, shape=(2, 8, 8))[0], ome=True, metadata=about)
    metadata = images.metadata_of(tmp_path / "a.tif")
    assert metadata is not None
    assert metadata.resolution == (20000.0, 40000.0)  # per centimetre
    assert metadata.description == ""


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.002, "PhysicalSizeYUnit": "mm"},
         ((40000.0, 5000.0), 3)),
        ({"PhysicalSizeX": 2, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 4}, ((5000.0, 2500.0), 3)),
        ({"PhysicalSizeX": 2, "PhysicalSizeXUnit": "pixel", "PhysicalSizeY": 4}, ((3.0, 5.0), 1)),
        ({"PhysicalSizeX": 0, "PhysicalSizeY": 4}, ((3.0, 5.0), 1)),
        ({}, ((3.0, 5.0), 1)),
    ],
)  # fmt: skip
def test_the_unit_of_an_ome_tiff_is_read_and_none_is_invented(
    tmp_path: Path, sizes: dict[str, object], expected: tuple[tuple[float, float], int]
) -> None:
    values = planes(1, "uint16", 0, 9, shape=(2, 8, 8))[0]
    about = {"axes": "CYX", **sizes}
    tifffile.imwrite(tmp_path / "a.tif", values, ome=True, metadata=about, resolution=(3, 5), resolutionunit="NONE")
    metadata = images.metadata_of(tmp_path / "a.tif")
    assert metadata is not None
    assert metadata.resolution is not None
    np.testing.assert_allclose(metadata.resolution, expected[0])
    assert metadata.unit == expected[1]


def test_texts_and_resolution_of_a_16_bit_png_return(tmp_path: Path) -> None:
    texts = {"Description": "cell 7, 20 µm", "Software": "a microscope", "Note": "細胞"}
    chunks = PngInfo()
    for name, text in {**texts, "XML:com.adobe.xmp": '<x tiff:Orientation="6"/>'}.items():
        chunks.add_text(name, text)
    values = planes(1, "uint16", 0, 9, shape=(8, 12))[0]
    Image.fromarray(values).save(tmp_path / "a.png", pnginfo=chunks, dpi=(300, 200))
    metadata = images.metadata_of(tmp_path / "a.png")
    assert metadata is not None
    fitted = metadata.fitted(None, 4)  # 8 pixels become 4
    images.save_image(tmp_path / "b.png", np.zeros((4, 4, 1), np.uint16), fitted)
    with Image.open(tmp_path / "b.png") as image:
        assert image.info.pop("dpi") == pytest.approx((150, 100), abs=0.02)
        assert image.info == texts  # what says how the file lies is not among them: the image is upright
    assert images.load_image(tmp_path / "b.png", channels=1).dtype == np.uint16
    images.save_image(tmp_path / "b.tif", np.zeros((4, 4, 3), np.uint16), fitted)  # of colour Pillow writes no PNG
    got = tags(tmp_path / "b.tif")
    assert (got[270], got[305], got[296]) == (texts["Description"], texts["Software"], 3)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.pages.first.get_resolution("INCH") == pytest.approx((150, 100), abs=0.02)


def test_a_slice_returns_to_its_place_in_the_volume(tmp_path: Path) -> None:
    affine = np.array([[-0.5, 0, 0, 90], [0, 0.6, 0, -120], [0, 0, 2, -70], [0, 0, 0, 1]])
    values = planes(3, "int16", -900, 900, shape=(12, 20))
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), affine), tmp_path / "a.nii.gz")
    metadata = images.metadata_of(tmp_path / "a.nii.gz/2")
    assert metadata is not None
    fitted = metadata.fitted(None, 6)  # the 12 x 12 square from column 4 on, halved
    images.save_image(tmp_path / "b.nii.gz", np.ones((6, 6, 1), np.int16), fitted)
    image = nibabel.load(tmp_path / "b.nii.gz")
    assert image.shape == (6, 6, 1)  # pyright: ignore[reportAttributeAccessIssue]
    assert image.get_data_dtype() == np.int16  # pyright: ignore[reportAttributeAccessIssue]
    got = image.affine  # pyright: ignore[reportAttributeAccessIssue]
    np.testing.assert_allclose(got[:3, :3], np.diag([-1, 1.2, 2]), atol=1e-6)
    # the first pixel covers columns 4 and 5, rows 0 and 1, of slice 2
    np.testing.assert_allclose(got @ [0, 0, 0, 1], affine @ [4.5, 0.5, 2, 1], atol=1e-5)
    assert images.load_image(tmp_path / "b.nii.gz", channels=1, window=((0.0, 1.0),)).shape == (6, 6, 1)


@pytest.mark.parametrize("codes", [(2, 0), (0, 1), (1, 1), (4, 1), (0, 0)])
def test_the_header_of_a_nifti_returns(tmp_path: Path, codes: tuple[int, int]) -> None:
    sform = np.array([[-0.5, 0, 0, 90], [0, 0.6, 0, -120], [0, 0, 2, -70], [0, 0, 0, 1.0]])
    qform = sform if codes != (4, 1) else np.diag([0.5, 0.6, 2, 1])  # of another space than the first
    given: Any = nibabel.Nifti1Image(planes(3, "int16", -900, 900, shape=(8, 8)).transpose(2, 1, 0), sform)
    given.set_sform(sform, codes[0])
    given.set_qform(qform, codes[1])
    given.header.set_xyzt_units("micron", "sec")
    given.header["descrip"] = "a scan"
    nibabel.save(given, tmp_path / "a.nii")
    metadata = images.metadata_of(tmp_path / "a.nii/2")
    assert metadata is not None
    images.save_image(tmp_path / "b.nii.gz", np.ones((4, 4, 1), np.int16), metadata.fitted(None, 4))
    image: Any = nibabel.load(tmp_path / "b.nii.gz")
    header = image.header
    assert header.get_xyzt_units() == ("micron", "sec")
    assert header["descrip"].item() == b"a scan"
    assert (int(header["sform_code"]), int(header["qform_code"])) == codes
    np.testing.assert_allclose(header.get_zooms(), (1, 1.2, 2), atol=1e-6)
    for form, code, expected in ((image.get_sform, codes[0], sform), (image.get_qform, codes[1], qform)):
        if code:  # the first pixel covers columns 0 and 1, rows 0 and 1, of slice 2
            np.testing.assert_allclose(form() @ [0, 0, 0, 1], expected @ [0.5, 0.5, 2, 1], atol=1e-5)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp"])
def test_metadata_of_an_8_bit_picture(tmp_path: Path, name: str) -> None:
    images.save_image(tmp_path / name, np.zeros((4, 6, 3), np.uint8))
    assert images.metadata_of(tmp_path / name) == ImageMetadata("png", "uint8", (4, 6))


def test_metadata_of_other_files(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", planes(1, "uint16", 0, 9)[0])
    assert images.metadata_of(tmp_path / "a.dcm") == ImageMetadata("dicom", "int16", (8, 10), resolution=(40.0, 20.0))
    write_png16(tmp_path / "a.png", planes(1, "uint16", 0, 9, shape=(8, 10, 3))[0])
    assert images.metadata_of(tmp_path / "a.png") == ImageMetadata("png", "uint16", (8, 10))
    (tmp_path / "bad.tif").write_bytes(b"no image")
    (tmp_path / "bad.png").write_bytes(b"no image")
    for name in ("bad.png", "bad.tif", "gone.tif", "gone.jpg", "a.zip/b.tif"):
        assert images.metadata_of(tmp_path / name) is None


@pytest.mark.parametrize(
    ("channels", "dtype", "metadata", "suffix"),
    [
        (1, "uint16", None, ".png"),
        (3, "uint8", None, ".png"),
        (3, "uint16", ImageMetadata("png", "uint16", (4, 4)), ".tif"),
        (2, "uint8", None, ".tif"),
        (1, "float32", None, ".tif"),
        (1, "uint8", ImageMetadata("tiff", "uint8", (4, 4)), ".tif"),
        (1, "int16", ImageMetadata("nifti", "int16", (4, 4)), ".nii.gz"),
    ],
)
def test_suffix_for_names_a_format_that_holds_the_image(
    tmp_path: Path, channels: int, dtype: str, metadata: ImageMetadata | None, suffix: str
) -> None:
    assert images.suffix_for(channels, dtype, metadata) == suffix
    pixels = planes(1, dtype, 0, 99, shape=(4, 4, channels))[0]
    images.save_image(tmp_path / f"a{suffix}", pixels, metadata)
    if suffix != ".nii.gz" and dtype.startswith("u"):
        np.testing.assert_array_equal(images.load_image(tmp_path / f"a{suffix}", channels=channels), pixels)
