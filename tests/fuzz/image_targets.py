"""Readers of images and volumes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import layouts
import nibabel
import numpy as np
import tifffile
import volumes
import zarr
from PIL import Image
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian
from targets import Target

from diffae.data.images import ImageSpec, load_image, metadata_of
from diffae.data.pack import Pack
from diffae.data.sources import open_source

_COLOUR = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)
_PLANES = volumes.planes(4, "uint16", 0, 999)


def read_image(path: Path) -> None:
    """Metadata and pixels of one image file."""
    metadata_of(path)
    load_image(path, 3, 16)


def read_source(path: Path) -> None:
    """The first images of a source as they are, in three channels or one."""
    source = open_source(path, 1)
    list(islice(source.fingerprint(), 100))
    for item in islice(source.items(), 3):
        item.read(ImageSpec(1, measured=True))
        metadata_of(path / item.name)


def read_pack(path: Path) -> None:
    """Index, names, labels and rows of a pack."""
    pack = Pack.open(path)
    list(islice(pack.names, 10))
    (
        pack.names[0],
        pack.names[len(pack) - 1],
        pack.labels,
        pack.window,
        pack.crop,
        pack.samples,
        pack.skipped,
        repr(pack),
    )
    pack.fetch(np.array([0, len(pack) - 1]))
    read_source(path)


def pillow(name: str, mode: str = "RGB", **options: Any) -> Callable[[Path], Path]:
    """Write a picture by Pillow."""

    def write(folder: Path) -> Path:
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(_COLOUR).convert(mode).save(folder / name, exif=exif, **options)
        return folder / name

    return write


def png16(folder: Path) -> Path:
    volumes.write_png16(folder / "a.png", _COLOUR.astype(np.uint16) * 257)
    return folder / "a.png"


def tiff(name: str = "a.tif", **options: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        tifffile.imwrite(folder / name, _PLANES, photometric="minisblack", **options)
        return folder / name

    return write


def picture_tiff(folder: Path) -> Path:
    Image.fromarray(_COLOUR).save(folder / "a.tif", compression="tiff_lzw")
    return folder / "a.tif"


def npy(folder: Path) -> Path:
    np.save(folder / "a.npy", _PLANES)
    return folder / "a.npy"


def npy_image(folder: Path) -> Path:
    np.save(folder / "a.npy", _COLOUR)
    return folder / "a.npy"


def npz(folder: Path) -> Path:
    np.savez_compressed(folder / "a.npz", images=_PLANES)
    return folder / "a.npz"


def hdf5(**options: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        with h5py.File(folder / "a.h5", "w", libver="latest" if options else None) as file:
            file.create_dataset("entry/data", data=_PLANES, **options)
            file["ids"] = np.arange(4)
            file["ids"].attrs["of"] = "images"
        return folder / "a.h5"

    return write


def zarr_store(version: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        group = zarr.create_group(folder / "a.zarr", zarr_format=version)
        group.create_array("0", data=_PLANES[:, None], chunks=(2, 1, 8, 10))
        axes = [{"name": name} for name in "tcyx"]
        group.attrs["multiscales"] = [{"axes": axes, "datasets": [{"path": "0"}]}]
        return folder / "a.zarr"

    return write


def nifti(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        nibabel.save(nibabel.Nifti1Image(_PLANES.astype(np.int16).transpose(2, 1, 0), np.eye(4)), folder / name)
        return folder / name

    return write


def dicom(deflated: bool = False) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        volumes.write_dicom(folder / "a.dcm", _PLANES)
        if deflated:
            data = dcmread(folder / "a.dcm")
            data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
            data.save_as(folder / "a.dcm")
        return folder / "a.dcm"

    return write


def lmdb(folder: Path) -> Path:
    return layouts.write_lmdb(folder / "a", {f"k{i:03d}": layouts.encoded(i % 20) for i in range(300)})


def numbered_lmdb(folder: Path) -> Path:
    return layouts.published(folder / "a.lmdb", 20, "256-", 5, "JPEG", 48, 48)


def pack(folder: Path) -> Path:
    rows = np.random.default_rng(1).integers(0, 256, (5, 8, 8, 3), np.uint8)
    made = Pack.from_arrays([rows], folder / "a.pack").path
    (made / "labels.csv").write_text("file,smiling\n" + "".join(f"{i:08d},{i % 2}\n" for i in range(5)))
    return made


TARGETS: dict[str, Target] = {
    "png": Target(pillow("a.png"), read_image),
    "png-palette": Target(pillow("a.png", "P"), read_image),
    "png-16": Target(png16, read_image),
    "jpeg": Target(pillow("a.jpg"), read_image),
    "jpeg-progressive": Target(pillow("a.jpg", progressive=True), read_image),
    "webp": Target(pillow("a.webp"), read_image),
    "bmp": Target(pillow("a.bmp"), read_image),
    "tiff-picture": Target(picture_tiff, read_image),
    "tiff-pages": Target(tiff(metadata=None), read_source),
    "tiff-deflate": Target(tiff(compression="zlib", tile=(16, 16)), read_source),
    "tiff-imagej": Target(tiff(imagej=True, metadata={"axes": "ZYX"}), read_source),
    "tiff-ome": Target(tiff("a.ome.tif", ome=True, metadata={"axes": "ZYX"}), read_source),
    "npy": Target(npy, read_source),
    "npy-image": Target(npy_image, read_image),
    "npz": Target(npz, read_source),
    "hdf5": Target(hdf5(), read_source),
    "hdf5-chunked": Target(hdf5(chunks=(2, 8, 10), compression="gzip", shuffle=True), read_source),
    "zarr-2": Target(zarr_store(2), read_source),
    "zarr-3": Target(zarr_store(3), read_source),
    "nifti": Target(nifti("a.nii"), read_source),
    "nifti-gz": Target(nifti("a.nii.gz"), read_source),
    "dicom": Target(dicom(), read_source),
    "lmdb": Target(lmdb, read_source),
    "lmdb-numbered": Target(numbered_lmdb, read_source),
    "pack": Target(pack, read_pack),
}
