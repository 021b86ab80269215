"""TIFF of any type, layout and number of channels, by tifffile; ordinary pictures by Pillow."""

from __future__ import annotations

import logging
import math
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Real
from PIL import Image

from diffae.data.formats import pictures
from diffae.data.formats.base import Format, Picture, Planes, check_limit
from diffae.data.formats.metadata import CENTIMETRE, ImageMetadata
from diffae.data.formats.tiff_pages import count_pages
from diffae.errors import DataError

_ASIDE = 1 | 4  # bits of NewSubfileType: a smaller version of another page, a mask
_CUT_SHORT = ("invalid page offset", "invalid offset to", "corrupted file", "corrupted tag list")  # tifffile's messages
_TEXT_TAGS = (305, 306, 315, 316, 33432)  # Software, DateTime, Artist, HostComputer, Copyright
_IMAGEJ = 50839
_LAYOUT = re.compile(r"^(images|channels|slices|frames|hyperstack|loop|min|max)=.*\n?", re.MULTILINE)
_MICROMETRES = {"pm": 1e-6, "Å": 1e-4, "nm": 1e-3, "um": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6, "in": 25400.0}


class Tiff(Format):
    """Files ending in .tif or .tiff; a page, or a plane of a hyperstack, is an image."""

    suffixes = (".tif", ".tiff")
    writable = True

    def open(self, path: Path, inner: str) -> Planes:
        with ExitStack() as opened:
            with path.open("rb") as file:
                pages = count_pages(file, path.stat().st_size)
            with _strict_tifffile():
                series = _only_series(opened.enter_context(_tifffile().TiffFile(path, _multifile=False)), pages)
            return _planes(series, opened.pop_all().close)  # the file stays open

    def metadata(self, path: Path, index: int, planes: Planes) -> ImageMetadata:
        """Resolution, description and other texts, and what ImageJ says about the image and its channels."""
        with _tifffile().TiffFile(path, _multifile=False) as file:
            page, tags = file.series[0].keyframe, file.series[0].keyframe.tags
            sizes = page.resolution if 282 in tags and 283 in tags else ()
            unit = int(page.resolutionunit)
            description = page.description
            if file.is_imagej:
                description = _LAYOUT.sub("", description)
            elif file.is_ome:
                if lengths := _ome_resolution(description):
                    sizes, unit = lengths, CENTIMETRE
                description = ""
            elif description.startswith(('{"shape"', "shape=(")):  # written by tifffile itself
                description = ""
            return ImageMetadata(
                "tiff",
                page.dtype.name,
                (page.imagelength, page.imagewidth),
                pages=len(file.series[0].pages) > 1,
                resolution=(sizes[0], sizes[1]) if len(sizes) == 2 and all(sizes) else None,
                unit=unit,
                description=description,
                texts=tuple((code, str(tags[code].value)) for code in _TEXT_TAGS if code in tags),
                notes=_imagej_notes(tags.valueof(_IMAGEJ, default={})),
            )

    def write(self, path: Path, pixels: Real[np.ndarray, "h w c"], metadata: ImageMetadata | None) -> None:
        """Write one image: channels as samples of a pixel, or as pages where they were pages in its source."""
        channels = pixels.shape[2]
        colour = (3, 4) if metadata is None and pixels.dtype == np.uint8 else (3,)  # 4: with alpha
        metadata = metadata or ImageMetadata("tiff", pixels.dtype.name, (pixels.shape[0], pixels.shape[1]))
        planes = pixels[..., 0] if channels == 1 else pixels.transpose(2, 0, 1) if metadata.pages else pixels
        if len(planes) == 1:  # unsqueezed: tifffile would take a page of one row for a sample
            planes = planes[None]
        description, notes = _imagej_metadata(metadata, channels)
        tifffile = _tifffile()
        # Texts as bytes, which tifffile reads back as UTF-8; it accepts str of ASCII only.
        tifffile.imwrite(
            path,
            planes,
            photometric="rgb" if channels in colour and not metadata.pages else "minisblack",
            planarconfig="contig" if channels > 1 and not metadata.pages else None,
            metadata=None,  # otherwise tifffile adds a description of its own
            description=description.encode() or None,
            resolution=metadata.resolution,
            resolutionunit=metadata.unit if metadata.resolution else None,
            software=False,
            extratags=[
                *((code, "s", 0, text.encode(), True) for code, text in metadata.texts),
                *(tifffile.imagej_metadata_tag(notes, "<") if notes else ()),
            ],
            byteorder="<",
        )


def read_tiff(data: bytes, channels: int) -> Picture:
    """Decode the bytes of a TIFF of one image, whose unnamed pages are channels if there are `channels` of them.

    Raises:
        DataError: it holds several images, too many pixels, or a compression that is not supported.
    """
    pages = count_pages(BytesIO(data), len(data))
    with _strict_tifffile(), _tifffile().TiffFile(BytesIO(data), _multifile=False) as file:
        page = file.pages[0]
        ordinary = len(file.pages) == 1 and page.samplesperpixel <= 4 and page.dtype in (np.uint8, np.uint16, bool)
        if ordinary and (channels in (1, 3) or (channels == 4 and _has_alpha(page))):
            try:
                return pictures.read_picture(data)  # Pillow knows more compressions, and applies the orientation
            except Image.UnidentifiedImageError:  # an unusual combination of samples
                pass
        planes = _planes(_only_series(file, pages))
        if not {"Y", "X"} <= set(planes.axes):
            raise DataError(f"has axes {planes.axes}, an image needs rows and columns; convert it")
        check_limit(math.prod(planes.shape) // max(channels, 4), "pixels")
        counted = planes.counted(channels)
        if (count := math.prod(planes.shape[axis] for axis in counted)) != 1:
            rule = "inside an archive one file is one image"
            raise DataError(f"holds {count} images (axes {planes.axes}), {rule}; unpack it and give the folder")
        return planes.picture(dict.fromkeys(counted, 0))


def _tifffile() -> Any:  # Any: the type of a page depends on the file
    import tifffile

    return tifffile


@contextmanager
def _strict_tifffile() -> Iterator[None]:
    """Raise ValueError where tifffile would only log that a file is cut short; hide its other messages."""
    here, logger = threading.get_ident(), logging.getLogger("tifffile")

    def refuse(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if record.thread == here and any(sign in message for sign in _CUT_SHORT):
            raise ValueError(message.rpartition("> ")[2])
        return record.thread != here

    logger.addFilter(refuse)
    try:
        yield
    finally:
        logger.removeFilter(refuse)


def _only_series(file: Any, pages: int) -> Any:
    """The pages of a TIFF, which must be alike; thumbnails, smaller levels and masks do not count."""
    _check_ome(file.ome_metadata or "", pages * min(file.pages[0].samplesperpixel, 2**16))
    first, *others = file.series
    more = [series for series in others if not (series.keyframe.is_subifd or series.keyframe.subfiletype & _ASIDE)]
    if more:
        kinds = " and ".join(f"{series.dtype} of {tuple(series.shape)}" for series in (first, *more[:2]))
        rule = "they must be alike in one file; save each kind in a file of its own"
        raise DataError(f"holds {1 + len(more)} kinds of pages ({kinds}{', ...' if len(more) > 2 else ''}), {rule}")
    return first


def _check_ome(text: str, planes: int) -> None:
    """Raise DataError if OME-XML declares more planes than there are in the file: tifffile lists every one."""
    for element in re.findall(r"<[^<>]*>", text):
        if re.match(r"<(\w+:)?Pixels\s", element):
            declared = math.prod(map(float, re.findall(r"\bSize[ZCT]\s*=\s*[\"'](\d+)", element)))
        else:
            declared = max(map(float, re.findall(r"\b(?:PlaneCount|NumPlanes)\s*=\s*[\"'](\d+)", element)), default=0)
        check_limit(declared, "images")
        if declared > planes:
            rule = "files whose planes are missing or in other files are not read"
            raise DataError(f"declares {declared:.0f} planes, it has {planes}; {rule}; save all planes in one file")


def _planes(series: Any, close: Any = lambda: None) -> Planes:
    page, shape = series.keyframe, tuple(series.shape)
    check_limit(math.prod(page.chunks) * page.dtype.itemsize, "bytes in an image")  # a tile may exceed its image
    before = shape[: len(shape) - len(page.shape)]
    pages = np.arange(math.prod(before)).reshape(before)
    contiguous = len(series.pages) != pages.size  # one page before all pixels, as ImageJ writes large files

    def read(at: tuple[int | slice, ...]) -> np.ndarray:
        try:
            if all(isinstance(place, slice) for place in at):
                return series.asarray()
            if contiguous:
                return series.asarray(out="memmap")[at]
            chosen = pages[at[: len(before)]]
            planes = np.stack([_decoded(series, int(number)) for number in np.ravel(chosen)])
            return planes.reshape(*np.shape(chosen), *page.shape)[(..., *at[len(before) :])]
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            raise DataError("its compression is not read for this layout; save it uncompressed or deflated") from None

    bands = ("RGBA" if _has_alpha(page) else "RGB") if page.photometric == 2 else ""
    return Planes(series.axes, shape, read, bands, close, page.dtype.itemsize)


def _decoded(series: Any, number: int) -> np.ndarray:
    """The pixels of a page, which must be of the size of the first, for that was checked."""
    page, first = series.pages[number], series.keyframe
    if (page.shape, page.chunks, page.dtype) != (first.shape, first.chunks, first.dtype):
        raise ValueError(
            f"page {number} is {page.dtype} of shape {page.shape}, the first {first.dtype} of {first.shape}"
        )
    if max(page.databytecounts, default=0) > (size := page.parent.filehandle.size):
        raise ValueError(f"page {number} has parts of {max(page.databytecounts)} bytes, the file has {size}")
    return page.asarray()


def _has_alpha(page: Any) -> bool:
    return page.samplesperpixel == 4 and tuple(page.extrasamples) in ((1,), (2,)) and page.dtype.kind == "u"


def _ome_resolution(description: str) -> tuple[float, ...]:
    """Pixels per centimetre, across and down, of the first image that OME-XML describes; () if it states no lengths."""
    pixels = ElementTree.fromstring(description).find(".//{*}Pixels")
    facts = {} if pixels is None else pixels.attrib
    lengths = []
    for name in ("PhysicalSizeX", "PhysicalSizeY"):
        unit = re.sub("[\N{MICRO SIGN}\N{GREEK SMALL LETTER MU}]", "u", facts.get(f"{name}Unit", "um"))
        lengths.append(float(facts.get(name, 0)) * _MICROMETRES.get(unit, 0))
    return tuple(1e4 / length for length in lengths) if all(0 < length < math.inf for length in lengths) else ()


def _imagej_notes(found: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    """The notes that stay true of a scaled image: regions of interest do not."""
    notes = {name: found.get(name) for name in ("Info", "Labels", "Ranges")}
    return tuple((name, note if isinstance(note, str) else tuple(note)) for name, note in notes.items() if note)


def _imagej_metadata(metadata: ImageMetadata, channels: int) -> tuple[str, dict[str, Any]]:
    """Description and notes of one image; where ImageJ described it, with the layout of its channels."""
    head, _, rest = metadata.description.partition("\n")
    if not head.startswith("ImageJ=") or (channels > 1 and not metadata.pages):
        return metadata.description, {}
    layout = f"images={channels}\nchannels={channels}\nhyperstack=true\n" if channels > 1 else ""
    lengths = {"Info": None, "Labels": channels, "Ranges": 2 * channels}  # those of one page among many do not fit
    notes = {name: note for name, note in metadata.notes if lengths[name] in (None, len(note))}
    return f"{head}\n{layout}{rest}", notes
