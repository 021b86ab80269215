"""Packs hold decoded images, are cached by content, and are written atomically."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffae.data import build
from diffae.data.build import build_pack
from diffae.data.pack import Pack
from diffae.errors import ConfigError, DataError


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (70, 8, 8, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path, images: np.ndarray) -> Path:
    (tmp_path / "photos" / "in").mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "photos" / "in" / f"{number:03d}.png")
    return tmp_path / "photos"


def listing(folder: Path) -> list[str]:
    """All names below a folder except that of the lock file."""
    return sorted(path.name for path in folder.rglob("*") if path.name != ".lock")


@pytest.mark.parametrize("workers", [1, 3])
def test_a_folder_becomes_a_pack_in_the_order_of_its_names(folder: Path, images: np.ndarray, workers: int) -> None:
    pack = build_pack(folder, folder.parent / "cache", size=8, workers=workers)
    assert pack.shape == images.shape
    assert (len(pack), pack.size, pack.channels, pack.dtype) == (70, 8, 3, np.uint8)
    assert list(pack.names) == [f"in/{number:03d}.png" for number in range(70)]
    assert pack.names[33] == "in/033.png"
    assert pack.names[-1] == "in/069.png"
    assert pack.names[1:3] == ["in/001.png", "in/002.png"]
    order = np.random.default_rng(1).permutation(70)
    assert np.array_equal(pack.fetch(order), images[order])
    assert np.array_equal(np.load(pack.path / "images.npy", mmap_mode="r"), images)
    assert listing(pack.path) == ["images.npy", "index.json", "names.txt"]
    assert np.array_equal(pickle.loads(pickle.dumps(pack)).fetch(order), images[order])


def test_a_pack_is_reused_when_content_and_settings_are_the_same(folder: Path) -> None:
    cache = folder.parent / "cache"
    first = build_pack(folder, cache, size=8)
    stamp = (first.path / "images.npy").stat().st_mtime_ns
    again = build_pack(folder, cache, size=8)
    assert again.path == first.path
    assert (again.path / "images.npy").stat().st_mtime_ns == stamp
    others = [
        build_pack(folder, cache, size=4),
        build_pack(folder, cache, size=8, channels=1),
        build_pack(folder, cache, size=8, crop=(0, 0, 4, 4)),
        build_pack(folder, cache, size=8, background=(0, 0, 0)),
    ]
    os.utime(folder / "in" / "005.png", ns=(1, 1))
    others.append(build_pack(folder, cache, size=8))
    assert len({pack.path for pack in [first, *others]}) == 6
    assert others[1].shape == (70, 8, 8, 1)


def test_a_pack_as_source_is_returned_or_converted(folder: Path, images: np.ndarray) -> None:
    cache = folder.parent / "cache"
    first = build_pack(folder, cache, size=8)
    assert build_pack(first.path, cache, size=8).path == first.path
    gray = build_pack(first.path, cache, size=8, channels=1)
    assert list(gray.names) == list(first.names)
    assert gray.shape == (70, 8, 8, 1)


def test_unreadable_images_are_left_out_and_listed(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = (folder / "in" / "005.png").read_bytes()
    (folder / "in" / "005.png").write_bytes(whole[:-40])
    (folder / "in" / "050.png").write_text("no image")
    cache = folder.parent / "cache"
    with caplog.at_level(logging.WARNING, "diffae"):
        pack = build_pack(folder, cache, size=8, workers=2)
    assert len(pack) == 68
    assert [name for name, _ in pack.skipped] == ["in/005.png", "in/050.png"]
    assert "is damaged or truncated" in pack.skipped[0][1]
    assert "in/005.png" not in list(pack.names)
    assert pack.names[5] == "in/006.png"
    assert "2 of 70 images could not be read and are left out" in caplog.text
    for _ in range(2):  # with the pack there, and without it
        with pytest.raises(DataError, match=r"in/005\.png: is damaged .*without --strict\)"):
            build_pack(folder, cache, size=8, strict=True)
        shutil.rmtree(pack.path, ignore_errors=True)
    assert listing(cache) == []


def test_too_few_images(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "a.png")
    (tmp_path / "photos" / "b.png").write_text("no image")
    with pytest.raises(DataError, match=r"1 of 2 images can be used, at least 2 are needed; .*b\.png: is not a JPEG"):
        build_pack(tmp_path / "photos", tmp_path / "cache", size=8)
    assert listing(tmp_path / "cache") == []


def test_wrong_channel_count(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 8, 8, 5), np.uint8))
    with pytest.raises(DataError, match=r"0 of 4 images .*has 5 channels, 3 are wanted; set channels to 5"):
        build_pack(tmp_path / "a.npy", tmp_path / "cache", size=8)
    assert build_pack(tmp_path / "a.npy", tmp_path / "cache", size=8, channels=5).channels == 5


def test_one_16_bit_image_makes_the_pack_16_bit(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    for number in range(40):
        Image.new("L", (8, 8), number).save(tmp_path / "scans" / f"{number:02d}.png")
    Image.fromarray(np.full((8, 8), 12345, np.uint16)).save(tmp_path / "scans" / "39.png")
    pack = build_pack(tmp_path / "scans", tmp_path / "cache", size=8, channels=1)
    assert pack.dtype == np.uint16
    assert pack.fetch(np.arange(40))[:, 0, 0, 0].tolist() == [257 * number for number in range(39)] + [12345]


def test_zip_and_array_give_the_same_pack(folder: Path, images: np.ndarray, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as file:
        for path in sorted(folder.rglob("*.png")):
            file.write(path, path.relative_to(folder).as_posix())
    np.save(tmp_path / "n.npy", images)
    for name in ("z.zip", "n.npy"):
        pack = build_pack(tmp_path / name, tmp_path / "cache", size=8)
        assert np.array_equal(pack.fetch(np.arange(70)), images)
    shutil.copy(tmp_path / "z.zip", tmp_path / "copy" if (tmp_path / "copy").mkdir() else tmp_path / "copy" / "z.zip")
    assert build_pack(tmp_path / "copy" / "z.zip", tmp_path / "cache", size=8).path.name.startswith("z-8x3-")
    assert len(list((tmp_path / "cache").glob("*.pack"))) == 2  # the copied archive found its pack


def test_not_enough_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type(shutil.disk_usage("/"))(10**6, 10**6 - 1000, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError, match=r"cannot write .*0.00 GB free of the 0.00 GB needed; free some"):
        build_pack(folder, folder.parent / "cache", size=8)
    assert listing(folder.parent / "cache") == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's always full device")
def test_a_disk_that_fills_up_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opening = Path.open

    def open_full(self: Path, mode: str = "r", *rest, **more):
        return opening(Path("/dev/full") if self.name == "images.npy" else self, mode, *rest, **more)

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(DataError, match=r"the disk is full after \d+ images; free some space"):
        Pack.from_arrays([np.zeros((600, 8, 8, 3), np.uint8)] * 3, tmp_path / "p.pack")
    assert listing(tmp_path) == []


def test_settings_are_checked(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="size is 0"):
        build_pack(folder, tmp_path / "cache", size=0)
    assert not (tmp_path / "cache").exists()


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def chunks():
        yield np.zeros((3, 8, 8, 3), np.uint8)
        raise RuntimeError("drawing failed")

    with pytest.raises(RuntimeError, match="drawing failed"):
        Pack.from_arrays(chunks(), tmp_path / "p.pack")
    assert listing(tmp_path) == []


def test_a_killed_process_leaves_no_pack_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    script = """
        import os, signal, sys
        import numpy as np
        from diffae.data.pack import Pack

        def chunks():
            yield np.zeros((3, 8, 8, 3), np.uint8)
            os.kill(os.getpid(), signal.SIGKILL)

        Pack.from_arrays(chunks(), sys.argv[1])
    """
    path = tmp_path / "p.pack"
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(script), path], check=False)
    assert result.returncode == -signal.SIGKILL
    assert not path.exists()
    assert any(name.endswith(".partial") for name in listing(tmp_path))
    assert len(Pack.from_arrays([np.ones((3, 8, 8, 3), np.uint8)], path)) == 3
    assert listing(tmp_path) == ["images.npy", "index.json", "names.txt", "p.pack"]


def test_from_arrays(tmp_path: Path, images: np.ndarray) -> None:
    chunks = (images[start : start + 16] for start in range(0, 70, 16))
    pack = Pack.from_arrays(chunks, tmp_path / "p.pack", (f"face {number}\r.png" for number in range(70)))
    assert np.array_equal(pack.fetch(np.arange(70)), images)
    assert pack.names[69] == "face 69\r.png"
    assert list(pack.names)[:2] == ["face 0\r.png", "face 1\r.png"]
    assert list(Pack.from_arrays([images[:2]], tmp_path / "q.pack").names) == ["00000000", "00000001"]
    for bad, names, message in [
        ([images], ["too", "few"], "got 2 names for 70 images"),
        ([images[:, :4]], None, r"must be uint8 or uint16 of shape \(k, size, size, c\)"),
        ([images / 255], None, "got float64"),
        ([], None, "got nothing"),
        ([images, images[..., :1]], None, r"got uint8 of shape \(70, 8, 8, 1\), not uint8"),
        ([images[:1]], ["a\nb"], "must not contain line breaks"),
    ]:
        with pytest.raises(DataError, match=message):
            Pack.from_arrays(bad, tmp_path / "bad.pack", names)
    with pytest.raises(DataError, match="exists already"):
        Pack.from_arrays([images], tmp_path / "p.pack")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "p.pack", "q.pack"]


def test_names_that_are_not_utf8_survive(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    pack = Pack.from_arrays([np.zeros((1, 4, 4, 1), np.uint8)], tmp_path / "p.pack", [name])
    assert (pack.names[0], list(pack.names)) == (name, [name])


def test_opening_damaged_packs(tmp_path: Path, images: np.ndarray) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        Pack.open(tmp_path)
    path = Pack.from_arrays([images], tmp_path / "p.pack").path
    array = path / "images.npy"
    array.write_bytes(array.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"is not a complete \.npy file .*; make it again"):
        Pack.open(path)
    np.save(array, images[:5])
    with pytest.raises(DataError, match=r"shape \(5, 8, 8, 3\) where \(70, 8, 8, 3\) is stated"):
        Pack.open(path)
    index = path / "index.json"
    for text in ("[" * 100_000, "{}", "[]", "null", '{"format": 1}', '{"format": 1, "count": "many"}'):
        whole, _ = index.read_text(), index.write_text(text)
        with pytest.raises(DataError, match=r"make it again"):
            Pack.open(path)
        index.write_text(whole)
    index.write_text(index.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(DataError, match="has format 9, 1 is read"):
        Pack.open(path)


def test_fetch_refuses_indices_outside(tmp_path: Path, images: np.ndarray) -> None:
    pack = Pack.from_arrays([images], tmp_path / "p.pack")
    assert pack.fetch(np.array([], np.int64)).shape == (0, 8, 8, 3)
    for index in (-1, 70):
        with pytest.raises(IndexError, match=r"must lie in 0\.\.69"):
            pack.fetch(np.array([0, index]))


def pack_of(path: Path, names: list[str]) -> Pack:
    return Pack.from_arrays([np.zeros((len(names), 2, 2, 1), np.uint8)], path, names)


def test_the_split_does_not_change_when_images_are_added(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(2000)]
    train, val = pack_of(tmp_path / "a.pack", names).split(0.1)
    assert sorted([*train, *val]) == list(range(2000))
    assert 150 < len(val) < 250
    more = sorted([*names, *(f"new {number}.png" for number in range(1000))])
    _, more_val = pack_of(tmp_path / "b.pack", more).split(0.1)
    held_out = {names[index] for index in val}
    assert {more[index] for index in more_val if not more[index].startswith("new")} == held_out


def test_split_limits(tmp_path: Path) -> None:
    pack = pack_of(tmp_path / "a.pack", [f"{number}.png" for number in range(200)])
    _, few = pack.split(0.5, max_val=10)
    _, all_below = pack.split(0.5)
    assert len(few) == 10
    assert set(few) < set(all_below)
    train, none = pack.split(0.0)
    assert (len(train), len(none)) == (200, 0)
    tiny_train, tiny_val = pack_of(tmp_path / "b.pack", ["a", "b"]).split(0.01)
    assert (len(tiny_train), len(tiny_val)) == (1, 1)
    most_train, _ = pack_of(tmp_path / "c.pack", ["a", "b", "c"]).split(0.999)
    assert len(most_train) == 1
    with pytest.raises(ConfigError, match="val_fraction is 1"):
        pack.split(1.0)


def test_progress_is_shown_on_stderr(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffae.console.LINE_EVERY_SECONDS", -1.0)
    build_pack(folder, folder.parent / "cache", size=8, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "reading images: 70 of 70 images" in shown.err
    assert "images/s" in shown.err
    build_pack(folder, folder.parent / "cache", size=4)
    assert capsys.readouterr().err == ""


def test_two_simultaneous_callers_build_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    build_it = build._build
    monkeypatch.setattr(build, "_build", lambda *args, **more: (built.append(args), build_it(*args, **more)))
    cache = folder.parent / "cache"
    with ThreadPoolExecutor(2) as pool:  # the lock distinguishes threads as it does processes
        packs = list(pool.map(lambda _: build_pack(folder, cache, size=8), range(2)))
    assert packs[0].path == packs[1].path
    assert len(built) == 1
    assert len(list(cache.glob("*.pack"))) == 1


def test_a_folder_that_cannot_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(DataError, match=r"folder .*: cannot be used \(No locks available\); choose another"):
        Pack.from_arrays([np.zeros((2, 8, 8, 3), np.uint8)], tmp_path / "p.pack")


def test_too_few_images_are_refused_before_any_is_decoded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_build", None)
    with pytest.raises(DataError, match=r"photos: 70 of 70 images can be used, at least 71 are needed"):
        build_pack(folder, folder.parent / "cache", size=8, at_least=71)
    assert not (folder.parent / "cache").exists()


def test_a_pack_with_too_few_names(tmp_path: Path, images: np.ndarray) -> None:
    path = Pack.from_arrays([images], tmp_path / "p.pack").path
    (path / "names.txt").write_text("only one\n")
    with pytest.raises(DataError, match=r"has 1 lines, not 70; make it again"):
        Pack.open(path).names[69]
