"""The entries of an LMDB file, read page by page.

LMDB's own library maps a file into memory and trusts it: a damaged or shortened file kills the process. Here every
page and entry is checked. The format is version 1 on 64-bit systems, without sorted duplicates.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from diffae.data.formats.base import check_limit

_PAGE = struct.Struct("<QHHHH")  # number, padding, flags, end of the offsets of entries, start of the entries
_META = struct.Struct("<II16x")  # magic, version, where it was mapped
_TREE = struct.Struct(
    "<IHHQQQQQ"
)  # padding (the page size in the first), flags, depth, pages of 3 kinds, entries, root
_LAST = struct.Struct("<QQ")  # last page, transaction
_NODE = struct.Struct("<HHHH")  # low and high part of a size or page, flags or high part of a page, size of the key
_BRANCH, _LEAF, _OVERFLOW, _KINDS = 1, 2, 4, 0x2F
_APART = 1  # flag of an entry whose value has pages of its own
_NONE = 2**64 - 1  # the root of an empty tree
_DEEPEST = 32


class Entry(NamedTuple):
    """One key, and a function that reads its value."""

    key: bytes
    value: Callable[[], bytes]


class LmdbFile:
    """An open LMDB file; a context manager. Damage raises ValueError, or DataError for a value over the limit."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        try:
            self._size = os.fstat(self._file.fileno()).st_size
            self._page = lru_cache(64)(self._read_page)
            self._open()
        except BaseException:
            self._file.close()
            raise

    def _open(self) -> None:
        """Find the newest of the two descriptions of the file, and check that all its pages are there."""
        head = self._read(0, 4096)
        page_size = _TREE.unpack_from(head, _PAGE.size + _META.size)[0]
        if page_size not in [2**power for power in range(9, 17)]:
            raise ValueError(f"its page size is {page_size}")
        found = []
        for start in (0, page_size):
            meta = self._read(start, _PAGE.size + _META.size + 2 * _TREE.size + _LAST.size)
            if _META.unpack_from(meta, _PAGE.size) != (0xBEEFC0DE, 1):
                raise ValueError("no LMDB of version 1")
            at = _PAGE.size + _META.size + _TREE.size
            found.append((*_LAST.unpack_from(meta, at + _TREE.size)[::-1], *_TREE.unpack_from(meta, at)))
        _, last, _, flags, _, _, _, _, self.entries, self._root = max(found)
        self.page_size = page_size
        if flags:
            raise ValueError(f"keys of another kind (flags {flags})")
        if self.entries * (_NODE.size + 3) > self._size:
            raise ValueError(f"{self.entries} entries stated in {self._size} bytes")
        if self._size < (last + 1) * page_size:  # the last pages need not be there, if they were taken and given back
            self._check_pages(last + 1)

    def __enter__(self) -> LmdbFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def get(self, key: bytes) -> bytes | None:
        """The value of a key."""
        entry = next(self.walk(key), None)
        return entry.value() if entry is not None and entry.key == key else None

    def walk(self, first: bytes = b"") -> Iterator[Entry]:
        """Entries in the order of their keys, from the first key that is not less than `first`."""
        last = None
        for key, *node in self._nodes(self._root, first, _DEEPEST) if self._root != _NONE else ():
            if last is not None and key <= last:
                raise ValueError("its keys are not in order")
            last = key
            if key >= first:
                yield Entry(key, lambda node=node: self._value(*node))

    def _nodes(self, number: int, first: bytes, depth: int) -> Iterator[tuple[bytes, bytes, int, int]]:
        """Key, page, place and size of the values below a page, without most of those before `first`.

        A negative place is where the page states the first of the pages that hold the value alone.
        """
        if not depth:
            raise ValueError(f"over {_DEEPEST} levels of pages")
        page = self._page(number)
        kind, lower, upper = _PAGE.unpack_from(page)[2:]
        count = (lower - _PAGE.size) // 2
        if kind & _KINDS not in (_BRANCH, _LEAF) or not _PAGE.size < lower <= upper <= len(page):
            raise ValueError(f"page {number} is damaged")
        places = struct.unpack_from(f"<{count}H", page, _PAGE.size)
        nodes = [self._node(page, place, bool(kind & _LEAF)) for place in places]
        for turn, (key, place, size, child) in enumerate(nodes):
            if kind & _LEAF:
                yield key, page, place, size
            elif turn + 1 == count or nodes[turn + 1][0] > first:
                yield from self._nodes(child, first, depth - 1)

    def _node(self, page: bytes, place: int, leaf: bool) -> tuple[bytes, int, int, int]:
        """Key, place in the page and size of a value, and the page below."""
        if place + _NODE.size > len(page):
            raise ValueError("an entry exceeds its page")
        low, high, flags, key_size = _NODE.unpack_from(page, place)
        start = place + _NODE.size + key_size
        size = low | high << 16
        held = 0 if not leaf else 8 if flags & _APART else size
        if start + held > len(page):
            raise ValueError("an entry exceeds its page")
        return page[place + _NODE.size : start], start if not flags & _APART else -start, size, size | flags << 32

    def _value(self, page: bytes, place: int, size: int) -> bytes:
        if place > 0:
            return page[place : place + size]
        check_limit(size, "bytes")
        return self._read(self._overflow(page, place) + _PAGE.size, size)

    def _overflow(self, page: bytes, place: int) -> int:
        """Where the pages of a value begin."""
        (number,) = struct.unpack_from("<Q", page, -place)
        start = number * self.page_size
        own, _, kind = struct.unpack("<QHH", self._read(start, 12))
        if own != number or not kind & _OVERFLOW:
            raise ValueError(f"page {number} is damaged")
        return start

    def _check_pages(self, stated: int) -> None:
        """Raise ValueError unless all pages that hold entries lie inside the file."""
        try:
            for _, page, place, size in self._nodes(self._root, b"", _DEEPEST) if self._root != _NONE else ():
                if place < 0:
                    self._read(self._overflow(page, place) + _PAGE.size + size - 1, 1)
        except EOFError:
            raise ValueError(f"it has {self._size // self.page_size} of {stated} pages") from None

    def _read_page(self, number: int) -> bytes:
        page = self._read(number * self.page_size, self.page_size)
        if _PAGE.unpack_from(page)[0] != number:
            raise ValueError(f"page {number} is damaged")
        return page

    def _read(self, start: int, size: int) -> bytes:
        data = os.pread(self._file.fileno(), size, start) if start + size <= self._size else b""
        if len(data) != size:
            raise EOFError(f"bytes {start} to {start + size} lie beyond its end at {self._size}")
        return data
