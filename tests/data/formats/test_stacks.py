"""Files of many images are read exactly, image by image, and bad files raise one-line errors."""

from __future__ import annotations

import importlib
import os
import pickle
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
import tifffile
import zarr
from volumes import FORMATS, planes, write_dicom

from diffae.data import images
from diffae.data.formats import base, stacks
from diffae.data.formats.base import Format, Planes
from diffae.data.formats.files import read_picture
from diffae.data.formats.stacks import Stack, find_stack
from diffae.data.sources import open_listed
from diffae.errors import ConfigError, DataError

RAW = images.ImageSpec(channels=1, measured=True)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_returns_the_values_and_types_written(tmp_path: Path, name: str) -> None:
    write, where = FORMATS[name]
    expected = write(tmp_path)
    source = open_listed(tmp_path / where, channels=1)
    assert len(source.names) == 12
    for again in (source, pickle.loads(pickle.dumps(source))):
        got = np.stack([again.read(index, RAW)[..., 0] for index in range(12)])
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


def pixels_of(path: Path, channels: int = 1) -> np.ndarray:
    """All images (n, h, w, c) of a file."""
    found = find_stack(path, channels)
    assert found is not None
    return np.stack([found[0].picture(index).pixels for index in range(len(found[0]))])


def test_axes_of_a_tiff_are_images_or_channels(tmp_path: Path) -> None:
    values = planes(6, "uint16", 0, 999).reshape(3, 2, 8, 10)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values, imagej=True, metadata={"axes": "ZCYX"})
    np.testing.assert_array_equal(pixels_of(path), values.transpose(0, 2, 3, 1))
    tifffile.imwrite(path, values, ome=True, photometric="minisblack", metadata={"axes": "TCYX"})
    np.testing.assert_array_equal(pixels_of(path), values.transpose(0, 2, 3, 1))
    colour = planes(4, "uint8", 0, 255, shape=(8, 10, 3))
    tifffile.imwrite(path, colour, photometric="rgb")
    np.testing.assert_array_equal(pixels_of(path, 3), colour)
    # unnamed pages are channels if there are as many as are wanted
    with tifffile.TiffWriter(path) as file:
        for plane in values[0]:
            file.write(plane, metadata=None, contiguous=False)
    assert pixels_of(path, 1).shape == (2, 8, 10, 1)
    np.testing.assert_array_equal(pixels_of(path, 2), values[:1, :].transpose(0, 2, 3, 1))


def test_a_volume_of_several_channels(tmp_path: Path) -> None:
    values = planes(3, "float32", 0, 1, shape=(8, 10, 4))
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0, 3), np.eye(4)), tmp_path / "a.nii")
    np.testing.assert_array_equal(pixels_of(tmp_path / "a.nii", 4), values)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"], file["first"] = values, values[..., 0]
    np.testing.assert_array_equal(pixels_of(tmp_path / "a.h5", 4), values)
    np.testing.assert_array_equal(pixels_of(tmp_path / "a.h5/first"), values[..., :1])


def test_an_ome_zarr_knows_its_axes(tmp_path: Path) -> None:
    values = planes(6, "uint16", 0, 999).reshape(3, 2, 8, 10)
    group = zarr.create_group(tmp_path / "a.zarr")
    group.create_array("0", data=values[:, :, None])  # t c z y x
    group.create_array("1", data=values[:, :, None, ::2, ::2])
    axes = [{"name": name} for name in "tczyx"]
    group.attrs["multiscales"] = [{"axes": axes, "datasets": [{"path": "0"}, {"path": "1"}]}]
    np.testing.assert_array_equal(pixels_of(tmp_path / "a.zarr", 2), values.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(pixels_of(tmp_path / "a.zarr/1", 2), values.transpose(0, 2, 3, 1)[:, ::2, ::2])


def test_rescaled_volumes(tmp_path: Path) -> None:
    stored = planes(3, "uint16", 0, 3000)
    write_dicom(tmp_path / "frames.dcm", stored, intercept=-1024)
    got = pixels_of(tmp_path / "frames.dcm")
    assert got.dtype == np.int16
    np.testing.assert_array_equal(got[..., 0], stored.astype(int) - 1024)
    image = nibabel.Nifti1Image(stored.transpose(2, 1, 0), np.eye(4))
    image.header.set_slope_inter(0.5, 3)
    nibabel.save(image, tmp_path / "a.nii.gz")
    expected = np.asarray(nibabel.load(tmp_path / "a.nii.gz").dataobj).transpose(2, 1, 0)  # pyright: ignore
    got = pixels_of(tmp_path / "a.nii.gz")[..., 0]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_one_image_of_many_is_named_by_its_number(tmp_path: Path) -> None:
    values = planes(3, "uint16", 0, 65535)
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), np.eye(4)), tmp_path / "a.nii")
    np.testing.assert_array_equal(images.load_image(tmp_path / "a.nii/2", channels=1)[..., 0], values[2])
    with pytest.raises(DataError, match=r"a\.nii: holds 3 images; name one of them, .*a\.nii/0 to .*a\.nii/2$"):
        images.load_image(tmp_path / "a.nii", channels=1)
    with pytest.raises(DataError, match=r"a\.nii/3: its images are 0\.\.2; name one of these"):
        images.load_image(tmp_path / "a.nii/3", channels=1)
    assert images.as_batch(f"{tmp_path}/a.nii/1", 4, 1).shape == (1, 1, 4, 4)


def test_files_of_many_images_in_a_folder(tmp_path: Path) -> None:
    values = planes(3, "uint16", 0, 65535)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), np.eye(4)), tmp_path / "in" / "deep" / "a.nii.gz")
    tifffile.imwrite(tmp_path / "in" / "b.tif", values[0])
    tifffile.imwrite(tmp_path / "in" / "c.tif", values[:2])
    zarr.create_array(tmp_path / "in" / "d.zarr", data=values)
    (tmp_path / "in" / "e.dcm").write_bytes(b"no dicom")
    source = open_listed(tmp_path / "in", channels=1)
    stacked = ["c.tif/0000", "c.tif/0001", "d.zarr/0000", "d.zarr/0001", "d.zarr/0002"]
    volume = [f"deep/a.nii.gz/000{k}" for k in range(3)]
    assert list(source.names) == ["b.tif", *stacked, *volume, "e.dcm"]
    for index, expected in enumerate([values[0], *values[:2], *values, *values]):
        np.testing.assert_array_equal(source.read(index, images.ImageSpec(1))[..., 0], expected)
    with pytest.raises(DataError, match=r"e\.dcm: is damaged or not a \.dcm file"):
        source.read(9, images.ImageSpec(1))


@pytest.mark.parametrize("suffix", [".tif", ".dcm", ".nii", ".nii.gz", ".h5", ".zarr"])
def test_damaged_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".zarr":
        path.mkdir()
        path = path / ".zarray"
    path.write_bytes(b"nothing of the kind" * 40)
    path = tmp_path / f"a{suffix}"
    with pytest.raises(DataError, match=rf"a\{suffix}: is damaged or not a \{suffix} file \(.*; make it again"):
        open_listed(path)


@pytest.mark.parametrize("layout", ["ImageJ", "pages"])
def test_a_tiff_that_is_cut_short(tmp_path: Path, layout: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "in" / "a.tif"
    path.parent.mkdir()
    values = planes(12, "uint16", 0, 999, shape=(40, 48))
    if layout == "ImageJ":
        tifffile.imwrite(path, values, imagej=True)
    else:
        with tifffile.TiffWriter(path) as file:
            for plane in values:
                file.write(plane, metadata=None, contiguous=False)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    with pytest.raises(
        DataError, match=r"a\.tif: is damaged or not a \.tif file \((ImageJ series metadata|invalid page offset)"
    ):
        open_listed(path)
    source = open_listed(path.parent, channels=1)
    with pytest.raises(DataError, match=r"image a\.tif: is damaged or truncated"):
        source.read(0, RAW)
    assert capfd.readouterr().err == ""


def test_pages_of_several_sizes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for height in (8, 6, 8):
            file.write(np.zeros((height, 10), np.uint16), metadata=None)
    rule = r"holds 2 kinds of pages \(uint16 of \(2, 8, 10\) and uint16 of \(6, 10\)\), they must be alike"
    with pytest.raises(DataError, match=rf"^images .*a\.tif: {rule}"):
        open_listed(path)
    with pytest.raises(DataError, match=rf"^image a: {rule}"):
        read_picture(path.read_bytes(), "a", 1)


def test_a_thumbnail_is_no_image_of_its_own(tmp_path: Path) -> None:
    values = planes(1, "uint16", 0, 999)[0]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(values, metadata=None)
        file.write(values[::2, ::2], metadata=None, subfiletype=1)
    np.testing.assert_array_equal(pixels_of(tmp_path / "a.tif")[..., 0], values[None])


def test_dicom_files_without_suffix(tmp_path: Path) -> None:
    values = planes(2, "uint16", 0, 3000)
    for number, plane in enumerate(values):
        write_dicom(tmp_path / f"IM{number:04d}", plane, intercept=0)
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "LICENSE").write_text("no image")
    source = open_listed(tmp_path, channels=1)
    assert list(source.names) == ["IM0000", "IM0001"]
    np.testing.assert_array_equal(np.stack([source.read(k, RAW)[..., 0] for k in range(2)]), values)
    np.testing.assert_array_equal(pixels_of(tmp_path / "IM0001")[..., 0], values[1:])


def test_a_dicom_whose_least_value_is_white_is_inverted(tmp_path: Path) -> None:
    stored = planes(1, "uint16", 0, 4095)[0]
    write_dicom(tmp_path / "a.dcm", stored, intercept=0, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(pixels_of(tmp_path / "a.dcm")[0, ..., 0], 4095 - stored)
    write_dicom(tmp_path / "b.dcm", stored, intercept=-1024, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(pixels_of(tmp_path / "b.dcm")[0, ..., 0], 4095 - stored.astype(int) - 1024)


def test_booleans_in_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["masks"] = np.eye(4, dtype=bool)[None]
    np.testing.assert_array_equal(pixels_of(tmp_path / "a.h5")[0, ..., 0], 255 * np.eye(4, dtype=np.uint8))


def test_what_holds_no_images(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"], file["y"] = np.zeros(4), np.zeros((2, 3, 4))
    with pytest.raises(DataError, match=r"a\.h5: has no array z; those of 3 or 4 dimensions are: y$"):
        open_listed(tmp_path / "a.h5" / "z")
    with pytest.raises(DataError, match=r"has shape \(4,\), it must be \(n, h, w\)"):
        open_listed(tmp_path / "a.h5" / "x")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["x"] = np.zeros(4)
    with pytest.raises(DataError, match=r"b\.h5: has no array of shape \(n, h, w\)"):
        open_listed(tmp_path / "b.h5")
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2, 2, 2)), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(DataError, match="has 5 dimensions, up to 4 are read"):
        open_listed(tmp_path / "a.nii")


@pytest.mark.parametrize(
    ("suffix", "extra"), [(".dcm", "dicom"), (".nii.gz", "nifti"), (".h5", "hdf5"), (".zarr", "zarr")]
)
def test_a_library_that_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, extra: str
) -> None:
    def missing(name: str) -> object:
        raise ImportError(name)

    path = tmp_path / f"a{suffix}"
    path.mkdir() if suffix == ".zarr" else path.write_bytes(b"")
    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=rf"which is not installed; pip install 'diffae\[{extra}\]'"):
        open_listed(tmp_path)


def test_few_files_stay_open_and_changed_ones_are_read_again(tmp_path: Path) -> None:
    opened = set()
    found = []
    for number in range(8):
        path = tmp_path / f"{number}.tif"
        tifffile.imwrite(path, planes(2, "uint16", number, 100 + number))
        found.append(Stack(path, "", 1))
    for stack in found * 2:
        stack.picture(1)
    if Path("/proc/self/fd").exists():
        for link in Path("/proc/self/fd").iterdir():
            if link.is_symlink() and str(tmp_path) in os.readlink(link):
                opened.add(link)
        assert 1 <= len(opened) <= 4
    tifffile.imwrite(found[7].file, planes(2, "uint16", 500, 600, shape=(20, 20)))
    assert found[7].picture(1).pixels.shape == (20, 20, 1)


class Raw(Format):
    """A format of somebody else: float32 images of 2 x 3 pixels."""

    suffixes = (".raw",)

    def open(self, path: Path, inner: str) -> Planes:
        values = np.fromfile(path, np.float32).reshape(-1, 2, 3)
        return Planes("NYX", values.shape, lambda at: values[at])


def test_a_new_format_is_one_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "FORMATS", (*stacks.FORMATS, Raw()))
    values = planes(4, "float32", 0, 1, shape=(2, 3))
    values.tofile(tmp_path / "a.raw")
    np.testing.assert_array_equal(pixels_of(tmp_path / "a.raw")[..., 0], values)
    ready = images.load_image(tmp_path / "a.raw/2", channels=1, window=((0.0, 1.0),))
    assert np.abs(ready[..., 0] / 65535 - values[2]).max() < 1e-5
    assert images.metadata_of(tmp_path / "a.raw/2") is None


@pytest.mark.parametrize(
    ("shape", "chunks", "unit"),
    [
        ((10**12, 8, 8), (1, 8, 8), "images"),
        ((1, 10**6, 10**6), (1, 8, 8), "pixels"),
        ((9, 8, 8), (2**30, 8, 8), "bytes"),
    ],
)
def test_what_a_file_declares_is_limited(tmp_path: Path, shape: tuple, chunks: tuple, unit: str) -> None:
    zarr.create_array(tmp_path / "a.zarr", shape=shape, chunks=chunks, dtype="uint8")
    with pytest.raises(DataError, match=rf"has more than the limit of \d+ {unit} .*; make it smaller first"):
        pixels_of(tmp_path / "a.zarr")


def test_the_pages_of_an_ome_tiff_are_limited(tmp_path: Path) -> None:
    text = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
        'DimensionOrder="XYZCT" SizeX="8" SizeY="8" SizeZ="100000" SizeC="1" SizeT="100000" Type="uint16">'
        '<TiffData IFD="0" PlaneCount="1"/></Pixels></Image></OME>'
    )
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8), np.uint16), description=text, metadata=None)
    with pytest.raises(DataError, match="has more than the limit of 16777216 images"):
        pixels_of(tmp_path / "a.tif")


def test_a_compressed_volume_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((8, 8, 30), np.uint8), np.eye(4)), tmp_path / "a.nii.gz")
    monkeypatch.setattr(base, "MAX_FILE_BYTES", 1000)
    with pytest.raises(DataError, match="has more than the limit of 1000 bytes"):
        pixels_of(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("kind", ["external", "virtual"])
def test_an_hdf5_file_that_names_other_files_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "secret").write_bytes(bytes(192))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        if kind == "external":
            file.create_dataset("images", (3, 8, 8), "u1", external=[(str(tmp_path / "secret"), 0, 192)])
        else:
            layout = h5py.VirtualLayout((3, 8, 8), "u1")
            layout[:] = h5py.VirtualSource(str(tmp_path / "secret"), "images", (3, 8, 8))
            file.create_virtual_dataset("images", layout)
    with pytest.raises(DataError, match="keeps its samples in other files"):
        pixels_of(tmp_path / "a.h5")


def test_a_later_page_that_states_another_size(tmp_path: Path) -> None:
    """It would be allocated: the sizes of the first page are checked."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((4, 8, 10), np.uint16), imagej=True, metadata={"axes": "ZYX"})
    with tifffile.TiffFile(path, mode="r+") as file:
        page: Any = file.pages[2]
        page.tags["ImageLength"].overwrite(2**32 - 1)
    with pytest.raises(DataError, match=r"a\.tif/2: is damaged .*page 2 "):
        Stack(path, "", 1).picture(2)
