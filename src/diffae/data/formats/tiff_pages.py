"""The directories of a TIFF, checked before libraries follow them: these hang on circles and on large counts."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO

from diffae.data.formats.base import check_limit

_SIZES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)  # bytes of a value, by its type
_CHILDREN = 330  # the tag that lists directories below this one
_CLASSIC, _BIG = ("I", 4, "H", "HHI4s"), ("Q", 8, "Q", "HHQ8s")
"""Formats of an offset, its place in the header, formats of a number of entries and of an entry."""


def count_pages(file: IO[bytes], size: int) -> int:
    """Number of pages of a TIFF of `size` bytes, and of the smaller levels and masks below them.

    Raises:
        ValueError: a directory is listed twice, or a directory or a value exceeds the file; others for other damage.
        DataError: more pages than the limit.
    """
    header = file.read(16)
    order = {b"II": "<", b"MM": ">"}[header[:2]]
    layout = {42: _CLASSIC, 43: _BIG}[struct.unpack_from(f"{order}H", header, 2)[0]]
    first = struct.unpack_from(order + layout[0], header, layout[1])[0]
    chains, seen = [first], set()
    while chains:
        if (start := chains.pop()) == 0:
            continue
        if start in seen:
            raise ValueError(f"the directory at byte {start} is listed twice")
        seen.add(start)
        check_limit(len(seen), "images")
        chains += _followers(file, start, size, tuple(order + form for form in layout if isinstance(form, str)))
    return len(seen)


def _followers(file: IO[bytes], start: int, size: int, forms: tuple[str, ...]) -> Iterator[int]:
    """Where the directories below the one at `start`, and the one after it, begin."""
    offset, number, entry = map(struct.Struct, forms)
    if start + number.size > size:
        raise ValueError(f"invalid page offset {start}, the file has {size} bytes")
    file.seek(start)
    (count,) = number.unpack(file.read(number.size))
    if start + number.size + count * entry.size + offset.size > size:
        raise ValueError(f"the directory at byte {start} of {count} entries exceeds the file")
    body = file.read(count * entry.size + offset.size)
    for tag, kind, values, place in entry.iter_unpack(body[: count * entry.size]):
        octets = values * (_SIZES[kind] if kind < len(_SIZES) else 0)
        if octets > size:
            raise ValueError(f"tag {tag} has {values} values, more than the file holds")
        if tag == _CHILDREN and kind in (4, 13, 16, 18):
            if octets > offset.size:
                file.seek(offset.unpack(place)[0])
                place = file.read(octets)
            width = "I" if _SIZES[kind] == 4 else "Q"
            yield from struct.unpack_from(f"{forms[0][0]}{values}{width}", place)
    yield offset.unpack(body[count * entry.size :])[0]
