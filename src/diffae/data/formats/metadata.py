"""What a file says about an image beside its samples, so that a decoded image can be written like its source."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

INCH, CENTIMETRE = 2, 3  # TIFF's resolution units
Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class ImageMetadata:
    """Metadata of one image, as plain values that a codes file can hold."""

    kind: Literal["png", "tiff", "nifti", "dicom"]
    dtype: str
    """Type of the samples."""
    shape: tuple[int, int]
    """Height and width in pixels."""
    pages: bool = False
    """Whether the channels of a TIFF are pages of their own."""
    resolution: tuple[float, float] | None = None
    """Pixels per unit of length, horizontally and vertically."""
    unit: int = CENTIMETRE
    """TIFF's number for that unit: 1 none, 2 inch, 3 centimetre."""
    description: str = ""
    """ImageDescription of a TIFF (ImageJ's without its layout), or descrip of a NIfTI file."""
    texts: tuple[tuple[int, str], ...] = ()
    """Other text tags of a TIFF: numbers and contents."""
    chunks: tuple[tuple[str, str], ...] = ()
    """Text chunks of a PNG: keywords and contents."""
    notes: tuple[tuple[str, Any], ...] = ()
    """ImageJ's own metadata: the image's information, and a label and a display range for each page."""
    affine: Matrix | None = None
    """NIfTI's 4 x 4 matrix from (column, row, slice, 1) to lengths; slice 0 is this image."""
    qform: Matrix | None = None
    """NIfTI's second such matrix, where there is one; it may refer to another space."""
    form_codes: tuple[int, int] = (2, 0)
    """NIfTI's sform_code and qform_code: the spaces of the first and of the second matrix."""
    units: int = 0
    """NIfTI's xyzt_units."""

    def fitted(self, box: tuple[int, int, int, int] | None, size: int) -> ImageMetadata:
        """The metadata of this image after `diffae.data.images.fit_picture` has cropped and scaled it."""
        height, width = self.shape
        if box is None or box[2] > width or box[3] > height:  # too small for the crop: it has been cropped before
            box = (0, 0, width, height)
        left, top, right, bottom = box
        down, across, side = centre_square(bottom - top, right - left)
        scale = size / side
        # The centre of the result's pixel 0 lies (1 / scale - 1) / 2 pixels beyond the centre of the square's pixel 0.
        shift = (1 / scale - 1) / 2
        step = np.diag([1 / scale, 1 / scale, 1, 1])
        step[:2, 3] = left + across + shift, top + down + shift
        return replace(
            self,
            shape=(size, size),
            resolution=self.resolution and (self.resolution[0] * scale, self.resolution[1] * scale),
            affine=moved(self.affine, step),
            qform=moved(self.qform, step),
        )


def moved(matrix: Any, step: np.ndarray) -> Matrix | None:
    """A 4 x 4 matrix after `step`, which maps new voxel indices to old ones; None stays None."""
    return None if matrix is None else tuple(map(tuple, (np.asarray(matrix) @ step).tolist()))


def centre_square(height: int, width: int) -> tuple[int, int, int]:
    """Top, left and side of the largest centred square."""
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side
