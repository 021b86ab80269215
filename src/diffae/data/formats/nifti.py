"""NIfTI: every slice (x, y) along z is an image, rescaled as its header states; a fourth axis holds the channels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Real

from diffae.data.formats.base import Format, Planes, check_limit, library, rescaled
from diffae.data.formats.metadata import ImageMetadata, moved
from diffae.errors import DataError


class Nifti(Format):
    """Files ending in .nii or .nii.gz."""

    suffixes = (".nii", ".nii.gz")
    writable = True

    def open(self, path: Path, inner: str) -> Planes:
        stored = library("nibabel", "nifti", f"images {path}").load(path).dataobj
        if path.suffix == ".gz":
            check_limit(math.prod(stored.shape) * stored.dtype.itemsize, "bytes")
        if min(stored.shape, default=0) < 1 or stored.dtype.kind not in "iuf" or not 0 <= stored.offset < 2**40:
            raise DataError(f"declares {stored.dtype} of shape {stored.shape} from byte {stored.offset}, not an image")
        raw = stored.get_unscaled()  # memory-mapped; a compressed file is read whole, for it cannot be entered midway
        span = (np.iinfo(raw.dtype).min, np.iinfo(raw.dtype).max) if raw.dtype.kind in "ui" else (0, 0)

        def read(at: tuple[int | slice, ...]) -> np.ndarray:
            return rescaled(np.array(raw[at]), float(stored.slope), float(stored.inter), span)

        if raw.ndim > 4:
            raise DataError(f"has {raw.ndim} dimensions, up to 4 are read (x, y, z, channels); drop some")
        return Planes("XYZC"[: raw.ndim], raw.shape, read, sample_bytes=raw.dtype.itemsize)

    def metadata(self, path: Path, index: int, planes: Planes) -> ImageMetadata:
        """Type and shape, both matrices moved to the slice, their codes, units and description."""
        image: Any = library("nibabel", "nifti", str(path)).load(path)
        header = image.header
        qform, qform_code = header.get_qform(coded=True)
        pixels = planes.picture({2: index} if len(planes.axes) > 2 else {}).pixels
        step = np.eye(4)
        step[2, 3] = index
        return ImageMetadata(
            "nifti",
            pixels.dtype.name,
            pixels.shape[:2],
            description=header["descrip"].item().decode("latin-1"),
            affine=moved(image.affine, step),
            qform=moved(qform, step),
            form_codes=(int(header["sform_code"]), int(qform_code)),
            units=int(header["xyzt_units"]),
        )

    def write(self, path: Path, pixels: Real[np.ndarray, "h w c"], metadata: ImageMetadata | None) -> None:
        """Write a volume of one slice."""
        nibabel = library("nibabel", "nifti", path.name)
        metadata = metadata or ImageMetadata("nifti", pixels.dtype.name, (pixels.shape[0], pixels.shape[1]))
        affine = np.eye(4) if metadata.affine is None else np.array(metadata.affine)
        volume = pixels.transpose(1, 0, 2)[:, :, None]  # (x, y, z, channels)
        image = nibabel.Nifti1Image(volume[..., 0] if pixels.shape[2] == 1 else volume, affine)
        sform_code, qform_code = metadata.form_codes
        image.set_sform(affine, sform_code)
        image.set_qform(affine if metadata.qform is None else np.array(metadata.qform), qform_code)  # sets zooms, too
        image.header["xyzt_units"] = metadata.units
        if metadata.kind == "nifti":
            image.header["descrip"] = metadata.description.encode("latin-1")
        nibabel.save(image, path)
