"""DICOM: every frame is an image, rescaled as its header states (CT: to Hounsfield units)."""

from __future__ import annotations

from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

import numpy as np

from diffae.data.formats.base import Format, Planes, library, rescaled
from diffae.data.formats.metadata import ImageMetadata
from diffae.errors import DataError


class Dicom(Format):
    """Files ending in .dcm or .dicom, and DICOM files without a suffix, as scanners name them."""

    suffixes = (".dcm", ".dicom")

    def matches(self, path: Path) -> bool:
        if "." in path.name or path.name.upper() == "DICOMDIR":  # the list of a medium's files
            return super().matches(path)
        if not path.is_file():  # opening a pipe would wait
            return False
        try:
            with path.open("rb") as file:
                return file.read(132)[128:] == b"DICM"
        except OSError:
            return False

    def open(self, path: Path, inner: str) -> Planes:
        pixels, header = library("pydicom.pixels", "dicom", f"images {path}"), _header(path)
        slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
        top = 2 ** int(header.BitsStored)
        span = (-top // 2, top // 2 - 1) if header.PixelRepresentation else (0, top - 1)
        inverted = header.PhotometricInterpretation == "MONOCHROME1"  # the least value is white
        colour = int(header.SamplesPerPixel) > 1

        def read(at: tuple[int | slice, ...]) -> np.ndarray:
            with _Bounded(path) as file:
                stored = pixels.pixel_array(file, index=at[0])  # decodes this frame only
            if inverted:
                stored = (sum(span) - stored.astype(np.int64)).clip(*span).astype(stored.dtype)
            return stored if colour else rescaled(stored, slope, intercept, span)

        shape = (int(header.get("NumberOfFrames", 1)), int(header.Rows), int(header.Columns))
        shape += (int(header.SamplesPerPixel),) * colour
        if (
            header.BitsAllocated not in (8, 16, 32, 64) or shape[0] > path.stat().st_size
        ):  # a byte or more for each frame
            raise DataError(f"declares frames of shape {shape}, {header.BitsAllocated} bits each, it cannot hold them")
        return Planes("ZYXS"[: len(shape)], shape, read, "RGB", sample_bytes=int(header.BitsAllocated) // 8)

    def metadata(self, path: Path, index: int, planes: Planes) -> ImageMetadata:
        """Type, shape and pixel spacing; nothing that identifies a patient."""
        header = _header(path)
        pixels = planes.picture({0: index}).pixels
        spacing = header.get("PixelSpacing")  # millimetres: between rows, between columns
        resolution = (10 / float(spacing[1]), 10 / float(spacing[0])) if spacing else None
        return ImageMetadata("dicom", pixels.dtype.name, pixels.shape[:2], resolution=resolution)


class _Bounded(BufferedReader):
    """A file of which no more is asked than it has: memory for a length in a damaged header would be taken first."""

    def __init__(self, path: Path) -> None:
        super().__init__(FileIO(path))
        self._size = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:  # pydicom reads the rest of a file only to inflate it
            raise DataError("is deflated as a whole, which is not read; save it uncompressed, for instance by gdcmconv")
        return super().read(min(size, max(self._size - self.tell(), 0)))


def _header(path: Path) -> Any:
    """All elements before the pixels."""
    with _Bounded(path) as file:
        return library("pydicom", "dicom", f"images {path}").dcmread(file, stop_before_pixels=True)
