"""Small files of every scientific format, with the array that was put in, for tests."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel
import numpy as np
import tifffile
import zarr
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def planes(count: int, dtype: str, low: float, high: float, seed: int = 0, shape: tuple = (8, 10)) -> np.ndarray:
    """Random values (count, *shape) whose least is low and whose largest is high."""
    values = np.random.default_rng(seed).uniform(low, high, (count, *shape))
    values.flat[0], values.flat[-1] = low, high
    return (values if dtype.startswith("f") else np.rint(values)).astype(dtype)


def write_dicom(path: Path, stored: np.ndarray, intercept: int = -1024, **more: object) -> None:
    """CT slices: (h, w) or (frames, h, w) uint16 of 12 bits."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    facts = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    facts.SOPClassUID, facts.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    facts.Rows, facts.Columns = stored.shape[-2:]
    if stored.ndim == 3:
        facts.NumberOfFrames = len(stored)
    facts.SamplesPerPixel, facts.PhotometricInterpretation = 1, "MONOCHROME2"
    facts.BitsAllocated, facts.BitsStored, facts.HighBit, facts.PixelRepresentation = 16, 12, 11, 0
    facts.RescaleSlope, facts.RescaleIntercept, facts.PixelSpacing = "1", str(intercept), ["0.5", "0.25"]
    for name, value in more.items():
        setattr(facts, name, value)
    facts.PixelData = stored.astype("<u2").tobytes()
    facts.save_as(path)


def smooth(width: int = 20, height: int = 12) -> np.ndarray:
    """A colour ramp, which lossy formats keep."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 / (width - 1), y * 255 / (height - 1), 255 - x * 255 / (width - 1)], -1).astype(np.uint8)


def write_png16(path: Path, pixels: np.ndarray, filtered: bool = True) -> None:
    """A 16-bit PNG of 1, 2, 3 or 4 channels (Pillow cannot write these), with the filter "sub" on odd rows."""
    height, width, channels = pixels.shape
    rows = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    step, lines = 2 * channels, b""
    for index, row in enumerate(rows):
        before = np.concatenate([np.zeros(step, np.uint8), row[:-step]])
        sub = filtered and index % 2 == 1
        lines += (b"\1" + (row - before).tobytes()) if sub else (b"\0" + row.tobytes())
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def _tiffs(folder: Path) -> np.ndarray:
    (folder / "in").mkdir()
    values = planes(12, "uint16", 100, 4000)
    for number, plane in enumerate(values):
        tifffile.imwrite(folder / "in" / f"{number:02d}.tif", plane)
    return values


def _pages(folder: Path) -> np.ndarray:
    values = planes(12, "float32", -1, 3)
    tifffile.imwrite(folder / "in.tif", values)
    return values


def _hdf5(folder: Path) -> np.ndarray:
    values = planes(12, "float32", 0, 1)
    with h5py.File(folder / "in.h5", "w") as file:
        file["ids"] = np.arange(12)
        file.create_dataset("entry/data", data=values, chunks=(5, 8, 10))
    return values


def _zarr(folder: Path) -> np.ndarray:
    values = planes(12, "int16", -300, 1000)
    array = zarr.create_array(folder / "in.zarr", shape=values.shape, chunks=(5, 8, 10), dtype=values.dtype)
    array[:] = values
    return values


def _nifti(folder: Path) -> np.ndarray:
    values = planes(12, "int16", -1000, 900)
    image = nibabel.Nifti1Image(values.transpose(2, 1, 0), np.diag([-0.5, 0.6, 2, 1]))
    nibabel.save(image, folder / "in.nii.gz")
    return values


def _dicoms(folder: Path) -> np.ndarray:
    (folder / "in").mkdir()
    values = planes(12, "uint16", 0, 3000)
    for number, plane in enumerate(values):
        write_dicom(folder / "in" / f"{number:02d}.dcm", plane)
    return values.astype(np.int16) - 1024


FORMATS: dict[str, tuple[Callable[[Path], np.ndarray], str]] = {
    "tiffs": (_tiffs, "in"),
    "pages": (_pages, "in.tif"),
    "hdf5": (_hdf5, "in.h5/entry/data"),
    "zarr": (_zarr, "in.zarr"),
    "nifti": (_nifti, "in.nii.gz"),
    "dicoms": (_dicoms, "in"),
}
"""Functions that write 12 images (h 8, w 10, one channel) into a folder and return them, and the path to open."""
