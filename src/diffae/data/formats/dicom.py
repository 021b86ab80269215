"""DICOM: every frame is an image, rescaled as its header states (CT: to Hounsfield units)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diffae.data.formats.base import Format, Planes, library, rescaled
from diffae.data.formats.metadata import ImageMetadata


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
        what = f"images {path}"
        pydicom, pixels = library("pydicom", "dicom", what), library("pydicom.pixels", "dicom", what)
        header = pydicom.dcmread(path, stop_before_pixels=True)
        slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
        top = 2 ** int(header.BitsStored)
        span = (-top // 2, top // 2 - 1) if header.PixelRepresentation else (0, top - 1)
        inverted = header.PhotometricInterpretation == "MONOCHROME1"  # the least value is white
        colour = int(header.SamplesPerPixel) > 1

        def read(at: tuple[int | slice, ...]) -> np.ndarray:
            stored = pixels.pixel_array(path, index=at[0])  # decodes this frame only
            if inverted:
                stored = (sum(span) - stored.astype(np.int64)).clip(*span).astype(stored.dtype)
            return stored if colour else rescaled(stored, slope, intercept, span)

        shape = (int(header.get("NumberOfFrames", 1)), int(header.Rows), int(header.Columns))
        shape += (int(header.SamplesPerPixel),) * colour
        return Planes("ZYXS"[: len(shape)], shape, read, "RGB", sample_bytes=int(header.BitsAllocated) // 8)

    def metadata(self, path: Path, index: int, planes: Planes) -> ImageMetadata:
        """Type, shape and pixel spacing; nothing that identifies a patient."""
        header = library("pydicom", "dicom", str(path)).dcmread(path, stop_before_pixels=True)
        pixels = planes.picture({0: index}).pixels
        spacing = header.get("PixelSpacing")  # millimetres: between rows, between columns
        resolution = (10 / float(spacing[1]), 10 / float(spacing[0])) if spacing else None
        return ImageMetadata("dicom", pixels.dtype.name, pixels.shape[:2], resolution=resolution)
