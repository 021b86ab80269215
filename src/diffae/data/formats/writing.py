"""Images to files, and what a file says beside its samples, so that an image comes back as it came.

A TIFF returns as a TIFF of its type of samples, with its resolution, description and other texts; a 16-bit PNG with its
resolution and texts; a slice of a NIfTI volume as a NIfTI slice in its place in space; a DICOM slice as a TIFF of its
values and pixel spacing.
"""

from __future__ import annotations

import contextlib
import html
import os
import re
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Real
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from diffae.data.formats.files import centre_square, deep_png, from_array
from diffae.data.formats.stacks import TIFF, find_stack, is_stack, library
from diffae.errors import DataError

_WRITABLE = (".png", ".jpg", ".jpeg", ".webp", ".bmp", *TIFF, ".npy", ".nii", ".nii.gz")
_TEXT_TAGS = (305, 306, 315, 316, 33432)  # Software, DateTime, Artist, HostComputer, Copyright
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_INCH, _CENTIMETRE = 2, 3  # TIFF's resolution units
_NOTES = 50839  # ImageJ's tag
_SHAPE = ('{"shape"', "shape=(")  # how the description begins that tifffile makes up
_MICROMETRES = {
    **{"pm": 1e-6, "Å": 1e-4, "nm": 1e-3, "um": 1.0, "\N{MICRO SIGN}m": 1.0, "\N{GREEK SMALL LETTER MU}m": 1.0},
    **{"mm": 1e3, "cm": 1e4, "dm": 1e5, "m": 1e6, "thou": 25.4, "in": 25400.0},
}
"""OME's units of length that images are measured in."""
_PNG_TAGS = {"Software": 305, "Author": 315, "Copyright": 33432}
"""PNG's words for what a TIFF has tags for."""
_TURNING = ("XML:com.adobe.xmp", "Raw profile type")  # texts of a PNG that may say how it is turned: it is upright now
_LAYOUT = re.compile(r"^(images|channels|slices|frames|hyperstack|loop|min|max)=.*\n?", re.MULTILINE)


@dataclass(frozen=True)
class Origin:
    """What a file says of an image beside its samples. All plain values, so that codes can carry it."""

    kind: Literal["png", "tiff", "nifti", "dicom"]
    dtype: str
    """Type of the samples."""
    shape: tuple[int, int]
    """Height and width in pixels."""
    pages: bool = False
    """Whether the channels of a TIFF lie on pages of their own."""
    resolution: tuple[float, float] | None = None
    """Pixels per unit of length, across and down."""
    unit: int = _CENTIMETRE
    """TIFF's number of that unit: 1 none, 2 inch, 3 centimetre."""
    description: str = ""
    """TIFF's ImageDescription, of ImageJ's without what it says of the layout; NIfTI's descrip."""
    texts: tuple[tuple[int, str], ...] = ()
    """Numbers and contents of other text tags of a TIFF."""
    chunks: tuple[tuple[str, str], ...] = ()
    """Keywords and contents of a PNG's text chunks."""
    notes: tuple[tuple[str, Any], ...] = ()
    """What ImageJ keeps apart: the image's information, and a label and a range of brightness for each page."""
    affine: tuple[tuple[float, ...], ...] | None = None
    """NIfTI's 4 x 4 matrix from (column, row, slice, 1) to lengths, slice 0 being this image."""
    qform: tuple[tuple[float, ...], ...] | None = None
    """The same of its second matrix, which may lead into another space, where there is one."""
    form_codes: tuple[int, int] = (2, 0)
    """NIfTI's sform_code and qform_code: the spaces of the first matrix and of the second."""
    units: int = 0
    """NIfTI's xyzt_units."""

    def fitted(self, box: tuple[int, int, int, int] | None, size: int) -> Origin:
        """Of the image that was cropped and scaled as `diffae.data.image_fitting.fit_picture` does."""
        height, width = self.shape
        if box is None or box[2] > width or box[3] > height:  # too small to be cropped: it was cropped before
            box = (0, 0, width, height)
        left, top, right, bottom = box
        down, across, side = centre_square(bottom - top, right - left)
        scale = size / side
        resolution = self.resolution and (self.resolution[0] * scale, self.resolution[1] * scale)
        # the centre of pixel 0 of the result lies (1 / scale - 1) / 2 pixels beyond that of the square's
        shift = (1 / scale - 1) / 2
        step = np.diag([1 / scale, 1 / scale, 1, 1])
        step[:2, 3] = left + across + shift, top + down + shift
        affine, qform = (form and _rows(np.array(form) @ step) for form in (self.affine, self.qform))
        return replace(self, shape=(size, size), resolution=resolution, affine=affine, qform=qform)


def _rows(matrix: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, matrix.tolist()))


def origin_of(path: str | Path) -> Origin | None:
    """What the file of an image says of it; None of arrays, what lies in archives, and what cannot be opened.

    Args:
        path: an image file, or FILE/k as `diffae.data.formats.stacks` names images.
    """
    path = Path(path)
    try:
        if path.suffix.lower() in _PICTURES:
            return _picture_origin(path)
        file = next((file for file in (path, *path.parents) if is_stack(file)), path)
        name = file.name.lower()
        if name.endswith(TIFF):
            return _tiff_origin(file)
        if name.endswith((".dcm", ".dicom")):
            return _dicom_origin(file)
        if name.endswith((".nii", ".nii.gz")):
            return _nifti_origin(file, int(path.name) if path != file else 0)
    except Exception:  # whatever is wrong with it, reading its pixels says so
        return None
    return None


def _picture_origin(file: Path) -> Origin:
    """Of pictures of 8 bits only the type: they return as PNG."""
    image: Any  # Any: Pillow's type of an image has no texts
    with Image.open(file, formats=("JPEG", "PNG", "WEBP", "BMP")) as image:
        shape = (image.height, image.width)
        if image.format != "PNG" or deep_png(file) is None:
            return Origin("png", "uint8", shape)
        texts = {name: str(text) for name, text in image.text.items() if not name.startswith(_TURNING)}
        dpi = image.info.get("dpi", ())
    return Origin(
        "png",
        "uint16",
        shape,
        resolution=(dpi[0] / 2.54, dpi[1] / 2.54) if dpi and all(dpi) else None,
        description=texts.get("Description", ""),  # this and the tags, where it is colour and returns as TIFF
        texts=tuple((number, texts[name]) for name, number in _PNG_TAGS.items() if name in texts),
        chunks=tuple(texts.items()),
    )


def _tiff_origin(file: Path) -> Origin:
    import tifffile

    with tifffile.TiffFile(file) as tiff:
        series = tiff.series[0]
        page: Any = series.keyframe
        tags = page.tags
        unit = int(tags[296].value) if 296 in tags else 2
        resolution = tuple(tags[number].value for number in (282, 283) if number in tags)
        pixels: tuple[float, ...] = tuple(above / below for above, below in resolution if above and below)
        description = page.description
        if tiff.is_imagej:
            description = _LAYOUT.sub("", description)
        elif tiff.is_ome:
            if told := _ome_resolution(description):
                pixels, unit = told, _CENTIMETRE
            description = ""
        elif description.startswith(_SHAPE):
            description = ""
        return Origin(
            "tiff",
            page.dtype.name,
            (page.imagelength, page.imagewidth),
            pages=len(series.pages) > 1,
            resolution=pixels if len(pixels) == 2 else None,
            unit=unit,
            description=description,
            texts=tuple((number, str(tags[number].value)) for number in _TEXT_TAGS if number in tags),
            notes=_imagej_notes(tags[_NOTES].value) if _NOTES in tags else (),
        )


def _ome_resolution(description: str) -> tuple[float, ...]:
    """Pixels per centimetre, across and down, of the first image that OME describes; () where it says no lengths."""
    pixels = re.search(r"<(\w+:)?Pixels\b[^>]*>", description)
    told = re.findall(r'\b(PhysicalSize[XY](?:Unit)?)=(["\'])(.*?)\2', pixels[0]) if pixels else []
    facts = {name: html.unescape(value) for name, _, value in told}
    lengths = [
        float(facts.get(f"PhysicalSize{axis}", 0)) * _MICROMETRES.get(facts.get(f"PhysicalSize{axis}Unit", "um"), 0)
        for axis in "XY"
    ]
    return tuple(1e4 / length for length in lengths) if all(0 < length < np.inf for length in lengths) else ()


def _imagej_notes(found: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Those that stay true of an image that is scaled: not its regions."""
    notes = {"Info": found.get("Info"), "Labels": found.get("Labels"), "Ranges": found.get("Ranges")}
    return tuple((name, note if isinstance(note, str) else tuple(note)) for name, note in notes.items() if note)


def _dicom_origin(file: Path) -> Origin:
    facts = library("pydicom", "dicom", str(file)).dcmread(file, stop_before_pixels=True)
    picture = _first_picture(file)
    spacing = facts.get("PixelSpacing")  # millimetres: between rows, between columns
    resolution = (10 / float(spacing[1]), 10 / float(spacing[0])) if spacing else None
    return Origin("dicom", picture.dtype.name, picture.shape[:2], resolution=resolution)


def _nifti_origin(file: Path, index: int) -> Origin:
    image: Any = library("nibabel", "nifti", str(file)).load(file)
    header = image.header
    second, code = header.get_qform(coded=True)
    step = np.eye(4)
    step[2, 3] = index
    affine, qform = (None if form is None else _rows(form @ step) for form in (image.affine, second))
    picture = _first_picture(file)
    return Origin(
        "nifti",
        picture.dtype.name,
        picture.shape[:2],
        description=header["descrip"].item().decode("latin-1"),
        affine=affine,
        qform=qform,
        form_codes=(int(header["sform_code"]), int(code)),
        units=int(header["xyzt_units"]),
    )


def _first_picture(file: Path) -> Any:
    found = find_stack(file, 1)
    assert found is not None  # its suffix is a stack's
    return found[0].picture(0).pixels


def suffix_for(channels: int, dtype: str, origin: Origin | None = None) -> str:
    """Of the file that an image is written to: that of its origin, else .png where that holds such samples, or .tif."""
    if origin is not None and origin.kind != "png":
        return ".nii.gz" if origin.kind == "nifti" else ".tif"
    return ".png" if channels in {"uint8": (1, 3, 4), "uint16": (1,)}.get(dtype, ()) else ".tif"


def write_image(path: str | Path, pixels: Real[np.ndarray, "h w *c"], origin: Origin | None = None) -> None:
    """Write an image; its suffix names the format. Written beside and renamed, so never half-written.

    8-bit gray, RGB and RGBA go into any format that holds them; 16-bit gray into PNG too; everything else into TIFF,
    NIfTI or npy. `origin` says what the file is to say beside the samples.

    Raises:
        DataError: a suffix that is not written, or one whose format cannot hold these pixels.
    """
    path = Path(path)
    suffix = next((suffix for suffix in reversed(_WRITABLE) if path.name.lower().endswith(suffix)), None)
    if suffix is None:
        raise DataError(f"cannot write {path.name}: the suffix must be one of {', '.join(_WRITABLE)}; rename it")
    picture = from_array(pixels)
    beside = path.with_name(f".{path.stem}-{os.getpid()}-{threading.get_ident()}{suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(beside, suffix, picture.pixels, origin)
        os.replace(beside, path)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error}; change the suffix, the folder or free some space") from None
    finally:
        with contextlib.suppress(OSError):  # where there is no such folder
            beside.unlink()


def _write(path: Path, suffix: str, pixels: Real[np.ndarray, "h w c"], origin: Origin | None) -> None:
    channels = pixels.shape[2]
    ordinary = suffix_for(channels, pixels.dtype.name) == ".png"
    if suffix == ".npy":
        np.save(path, pixels)
    elif suffix in (".nii", ".nii.gz"):
        _write_nifti(path, pixels, origin)
    elif suffix in TIFF and (origin is not None or not ordinary):
        _write_tiff(path, pixels, origin)
    elif ordinary and (pixels.dtype == np.uint8 or suffix in (".png", *TIFF)):
        image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
        about = _png_settings(origin) if origin is not None and suffix == ".png" else {}
        image.save(path, quality=95, **about)  # quality: of JPEG and WebP; the others are lossless
    else:
        what = f"{pixels.dtype} with {channels} channels"
        raise DataError(f"cannot write {what} to a {suffix} file: it holds less; use .tif or .npy")


def _png_settings(origin: Origin) -> dict[str, Any]:
    """What Pillow is to write beside the samples."""
    texts = PngInfo()
    for name, text in origin.chunks:
        texts.add_text(name, text)
    inches = {_INCH: 1, _CENTIMETRE: 2.54}.get(origin.unit)
    dpi = tuple(inches * pixels for pixels in origin.resolution) if origin.resolution and inches else None
    return {"pnginfo": texts, "dpi": dpi}


def _write_nifti(path: Path, pixels: Real[np.ndarray, "h w c"], origin: Origin | None) -> None:
    nibabel = library("nibabel", "nifti", path.name)
    origin = origin or Origin("nifti", pixels.dtype.name, (pixels.shape[0], pixels.shape[1]))
    affine = np.eye(4) if origin.affine is None else np.array(origin.affine)
    volume = pixels.transpose(1, 0, 2)[:, :, None]  # (x, y, z, channels)
    image = nibabel.Nifti1Image(volume[..., 0] if pixels.shape[2] == 1 else volume, affine)
    sform_code, qform_code = origin.form_codes
    image.set_sform(affine, sform_code)
    image.set_qform(affine if origin.qform is None else np.array(origin.qform), qform_code)  # the sizes of pixels too
    image.header["xyzt_units"] = origin.units
    if origin.kind == "nifti":
        image.header["descrip"] = origin.description.encode("latin-1")
    nibabel.save(image, path)


def _write_tiff(path: Path, pixels: Real[np.ndarray, "h w c"], origin: Origin | None) -> None:
    import tifffile

    origin = origin or Origin("tiff", pixels.dtype.name, (pixels.shape[0], pixels.shape[1]))
    channels = pixels.shape[2]
    photometric = "rgb" if channels == 3 and not origin.pages else "minisblack"
    planes = pixels[..., 0] if channels == 1 else pixels.transpose(2, 0, 1) if origin.pages else pixels
    layout = f"images={channels}\nchannels={channels}\nhyperstack=true\n" if channels > 1 else ""
    head, _, rest = origin.description.partition("\n")
    imagej = head.startswith("ImageJ=") and (channels == 1 or origin.pages)
    fitting = {"Info": None, "Labels": channels, "Ranges": 2 * channels}  # not of a page among others
    notes = {name: note for name, note in origin.notes if fitting[name] in (None, len(note))} if imagej else {}
    if len(planes) == 1:  # unsqueezed: tifffile would take a page of one row for a sample
        planes = planes[None]
    # texts as bytes, which tifffile reads back as UTF-8: of text it takes ASCII alone
    tifffile.imwrite(
        path,
        planes,
        photometric=photometric,
        planarconfig="contig" if planes.ndim == 3 and not origin.pages else None,
        metadata=None,  # else tifffile adds a description of its own
        description=(f"{head}\n{layout}{rest}" if imagej else origin.description).encode() or None,
        resolution=origin.resolution,
        resolutionunit=origin.unit if origin.resolution else None,
        software=False,
        extratags=[
            *((number, "s", 0, text.encode(), True) for number, text in origin.texts),
            *(tifffile.imagej_metadata_tag(notes, "<") if notes else ()),
        ],
        byteorder="<",
    )
