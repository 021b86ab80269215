"""LMDBs of any keys, and those of the published repository, are read in order and checked for damage."""

from __future__ import annotations

import os
from pathlib import Path

import layouts
import lmdb
import pytest
from layouts import contents, encoded

from diffae.data.images import ImageSpec
from diffae.data.sources import Source, lmdb_files, open_source
from diffae.errors import ConfigError, DataError

SPEC = ImageSpec(channels=3, size=8)


@pytest.mark.parametrize("mapped", [2, 4096])
def test_any_lmdb_of_images(tmp_path: Path, mapped: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb_files, "_MAPPED", mapped)  # entries before the file is opened anew
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


@pytest.mark.parametrize("mapped", [2, 4096])
def test_a_numbered_lmdb_from_any_position(tmp_path: Path, mapped: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb_files, "_MAPPED", mapped)
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


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lmdb", None)
    layouts.write(tmp_path, {"data.mdb": b""})
    with pytest.raises(ConfigError, match=r"needs lmdb, which is not installed; pip install 'diffae\[lmdb\]'"):
        open_source(tmp_path)
