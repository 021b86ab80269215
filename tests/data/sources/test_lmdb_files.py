"""LMDBs of any keys, and those of the published repository, are read in order and checked for damage."""

from __future__ import annotations

import os
import struct
from itertools import islice
from pathlib import Path

import layouts
import lmdb
import numpy as np
import pytest
from layouts import contents, encoded

from diffae.data.images import ImageSpec
from diffae.data.sources import Source, open_source
from diffae.data.sources.lmdb_pages import LmdbFile
from diffae.errors import DataError

SPEC = ImageSpec(channels=3, size=8)


def test_any_lmdb_of_images(tmp_path: Path) -> None:
    path = layouts.write_lmdb(
        tmp_path / "any", {**{f"k{i}": encoded(i) for i in range(5)}, "length": b"5", "__keys__": b"x"}
    )
    stream = open_source(path)
    wanted = [(f"k{i}", i, ()) for i in range(5)]
    assert isinstance(stream, Source)
    assert stream.count == 5
    assert contents(stream) == wanted
    assert [contents(stream, start) for start in range(7)] == [wanted[start:] for start in range(7)]
    assert contents(open_source((path / "data.mdb").rename(tmp_path / "one.lmdb"))) == wanted


def test_a_numbered_lmdb_from_any_position(tmp_path: Path) -> None:
    stream = open_source(layouts.published(tmp_path / "a.lmdb", 5, "None-", 7, "PNG"))
    wanted = [(f"None-{i:07d}", i, ()) for i in range(5)]
    assert [contents(stream, start) for start in range(6)] == [wanted[start:] for start in range(6)]


def test_generated_images_of_the_published_repository(tmp_path: Path) -> None:
    """Its image writer leaves the resolution out of the keys."""
    assert contents(open_source(layouts.published(tmp_path / "a", 3, "", 7, "WEBP"))) == [
        (f"{i:07d}", i, ()) for i in range(3)
    ]


def test_unprintable_keys_become_hexadecimal_names(tmp_path: Path) -> None:
    assert contents(open_source(layouts.write_lmdb(tmp_path / "a", {"a\nb": encoded(3)}))) == [("610a62", 3, ())]


def test_files_that_are_no_lmdb(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "data.mdb").write_bytes(b"hello" * 2000)
    with pytest.raises(DataError, match=r"images .*bad: is not a complete LMDB \(.*\); get it again"):
        open_source(tmp_path / "bad")
    with pytest.raises(DataError, match="the LMDB holds no images"):
        open_source(layouts.write_lmdb(tmp_path / "empty", {"length": b"0"}))
    with pytest.raises(DataError, match="its length is b'many', it must be a number"):
        open_source(layouts.write_lmdb(tmp_path / "odd", {"256-00000": encoded(1), "length": b"many"}))


@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_truncated_lmdb_is_refused(tmp_path: Path, kept: float) -> None:
    """Reading beyond the end of the file would kill this process."""
    path = layouts.write_lmdb(tmp_path / "a", {f"k{i:03d}": bytes(3000) for i in range(60)})
    size = (path / "data.mdb").stat().st_size
    os.truncate(path / "data.mdb", int(kept * size))
    with pytest.raises(DataError, match=r"a: is not a complete LMDB \(it has \d+ of \d+ pages\); get it again"):
        open_source(path)


def test_an_intact_lmdb_needs_no_other_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = layouts.write_lmdb(tmp_path / "a", {f"k{i}": encoded(i) for i in range(5)})
    monkeypatch.setattr("subprocess.run", None)
    assert len(contents(open_source(path))) == 5


def test_an_lmdb_whose_last_pages_were_never_written_is_read(tmp_path: Path) -> None:
    """Pages that a transaction allocated and freed need not be in the file."""
    path = tmp_path / "a"
    for turn in range(3):  # leaves free pages, on which the list of free pages is then written
        layouts.write_lmdb(path, {f"k{i:02d}": encoded(i) + bytes(2000 + turn) for i in range(20)})
    with lmdb.open(str(path), map_size=2**24) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"large", bytes(400_000))
        transaction.put(b"k00", encoded(7))
        transaction.delete(b"large")
    with lmdb.open(str(path), readonly=True) as environment:
        pages, page = environment.info()["last_pgno"] + 1, environment.stat()["psize"]
    assert (path / "data.mdb").stat().st_size < pages * page
    assert [number for _, number, _ in contents(open_source(path))] == [7, *range(1, 20)]
    os.truncate(path / "data.mdb", 10 * page)
    with pytest.raises(DataError, match="is not a complete LMDB"):
        open_source(path)


def test_the_library_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It maps the file, and a page beyond its end would kill this process."""
    path = layouts.write_lmdb(tmp_path / "a", {f"k{i}": encoded(i) for i in range(5)})
    monkeypatch.setitem(__import__("sys").modules, "lmdb", None)
    assert len(contents(open_source(path))) == 5


@pytest.mark.parametrize("count", [0, 1, 40, 3000])
def test_the_same_entries_as_the_library_reads(tmp_path: Path, count: int) -> None:
    """Keys and values of many sizes: trees of several levels, values on pages of their own."""
    random = np.random.default_rng(count)
    sizes = np.minimum(random.pareto(0.6, count) * 8, 60_000).astype(int).tolist()
    entries = {random.bytes(int(random.integers(1, 300))): bytes([i % 256]) * size for i, size in enumerate(sizes)}
    with lmdb.open(str(tmp_path / "a"), map_size=2**30) as environment:
        with environment.begin(write=True) as transaction:
            for key, value in entries.items():
                transaction.put(key, value)
            for key in list(entries)[::7]:
                transaction.delete(key)
        with environment.begin() as transaction:
            expected = list(transaction.cursor())
    with LmdbFile(tmp_path / "a" / "data.mdb") as file:
        assert file.entries == len(expected)
        assert [(key, value()) for key, value in file.walk()] == expected
        for place in range(0, len(expected), max(len(expected) // 50, 1)):
            key, value = expected[place]
            assert file.get(key) == value
            assert [entry.key for entry in islice(file.walk(key + b"\0"), 3)] == [
                k for k, _ in expected[place + 1 :][:3]
            ]
        assert file.get(b"missing" * 50) is None


def test_the_length_is_limited_by_the_entries(tmp_path: Path) -> None:
    path = layouts.write_lmdb(tmp_path / "a", {"256-00000": encoded(1), "length": b"9" * 18})
    with pytest.raises(DataError, match="states 999999999999999999 images, it has 1; get the whole file"):
        open_source(path)


@pytest.mark.parametrize(
    ("offset", "form", "value", "reason"),
    [
        (16 + 24, "<I", 2**31, "its page size is"),
        (16 + 24 + 48 + 4, "<H", 4, "keys of another kind"),
        (16 + 24 + 48 + 32, "<Q", 2**40, "entries stated in"),
        (16 + 24 + 48 + 40, "<Q", 2**40, "lie beyond its end"),
        (16 + 24 + 48 + 40, "<Q", 1, "page 1 is damaged"),
    ],
)
def test_a_damaged_header(tmp_path: Path, offset: int, form: str, value: int, reason: str) -> None:
    file = layouts.write_lmdb(tmp_path / "a", {f"k{i:03d}": bytes(300) for i in range(60)}) / "data.mdb"
    data = bytearray(file.read_bytes())
    for start in (0, 4096):
        struct.pack_into(form, data, start + offset, value)
    file.write_bytes(data)
    with pytest.raises(DataError, match=f"is not a complete LMDB .*{reason}.*; get it again"):
        open_source(tmp_path / "a")


@pytest.mark.parametrize(("circle", "reason"), [(True, "over 32 levels"), (False, "not in order")])
def test_a_tree_that_meets_itself(tmp_path: Path, circle: bool, reason: str) -> None:
    file = layouts.write_lmdb(tmp_path / "a", {f"k{i:03d}": encoded(i % 20) for i in range(60)}) / "data.mdb"
    data = bytearray(file.read_bytes())
    branch = next(page for page in range(0, len(data), 4096) if struct.unpack_from("<H", data, page + 10)[0] & 1)
    first, second = (branch + place for place in struct.unpack_from("<HH", data, branch + 16))
    child = struct.pack("<I", branch // 4096) if circle else data[first : first + 4]
    data[second : second + 4] = child
    file.write_bytes(data)
    with pytest.raises(DataError, match=f"is not a complete LMDB .*{reason}"):
        contents(open_source(tmp_path / "a"))
