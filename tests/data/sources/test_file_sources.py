"""Folders, archives and arrays list and read the same images."""

from __future__ import annotations

import errno
import io
import os
import pickle
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from diffae.data.build import build_pack
from diffae.data.images import ImageSpec
from diffae.data.pack import Pack
from diffae.data.sources import ListedSource, open_listed
from diffae.data.sources.files import ZipSource
from diffae.errors import DataError

SPEC = ImageSpec(channels=3)


def picture(value: int) -> np.ndarray:
    return np.full((6, 6, 3), value, np.uint8)


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(value)).save(buffer, "PNG")
    return buffer.getvalue()


TREE = {"b.png": 2, "a/z.png": 1, "a/deep/er/x.PNG": 0, "c 10.png": 3, "c 9.png": 4, "é.png": 5}
SORTED = ["a/deep/er/x.PNG", "a/z.png", "b.png", "c 10.png", "c 9.png", "é.png"]
IGNORED = [".hidden.png", ".git/a.png", "__MACOSX/b.png", "a/._b.png", "notes.txt", "labels.csv"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name, value in TREE.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(value))
    for name in IGNORED:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(9))
    return root


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/", "")
        for name, value in TREE.items():
            file.writestr(name, png(value))
        for name in IGNORED:
            file.writestr(name, png(9))
    return tmp_path / "photos.zip"


def values(source: ListedSource) -> list[int]:
    return [int(source.read(index, SPEC)[0, 0, 0]) for index in range(len(source.names))]


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_files_are_listed_in_order_without_hidden_ones(kind: str, request: pytest.FixtureRequest) -> None:
    source = open_listed(request.getfixturevalue(kind))
    assert list(source.names) == SORTED
    assert values(source) == [0, 1, 2, 3, 4, 5]
    assert values(pickle.loads(pickle.dumps(source))) == values(source)


def test_links_are_followed_but_not_in_cycles(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "l.png").write_bytes(png(7))
    os.symlink(tmp_path / "elsewhere", folder / "linked")
    os.symlink(folder, folder / "a" / "circle")
    assert list(open_listed(folder).names) == sorted([*SORTED, "linked/l.png"])


def test_each_process_opens_an_archive_for_itself(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ZipSource(archive)
    handle, expected = source._archive(), values(source)
    assert source._archive() is handle
    monkeypatch.setattr(os, "getpid", lambda: -1)  # as in a forked child
    assert source._archive() is not handle
    assert values(source) == expected


@pytest.mark.parametrize("shape", [(4, 6, 6), (4, 6, 6, 3), (4, 6, 5, 2)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", ["npy", "npz", "npz named"])
def test_arrays(tmp_path: Path, shape: tuple[int, ...], dtype: type, kind: str) -> None:
    array = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)
    path = tmp_path / f"a.{kind[:3]}"
    if kind == "npy":
        np.save(path, array)
    elif kind == "npz":
        np.savez_compressed(path, array)
    else:
        np.savez(path, labels=np.zeros(4), images=array)
    source = open_listed(path)
    assert list(source.names) == ["00000000", "00000001", "00000002", "00000003"]
    got = source.read(2, ImageSpec(channels=1 if len(shape) == 3 else shape[3]))
    assert got.dtype == dtype
    assert np.array_equal(got, array[2].reshape(got.shape))
    assert np.array_equal(pickle.loads(pickle.dumps(source)).read(2, ImageSpec(channels=got.shape[2])), got)


def test_a_pack_is_a_source(tmp_path: Path) -> None:
    Pack.from_arrays([np.stack([picture(3), picture(8)])], tmp_path / "p.pack", ["x/three.png", "eight.png"])
    source = open_listed(tmp_path / "p.pack")
    assert list(source.names) == ["x/three.png", "eight.png"]
    assert values(source) == [3, 8]


def test_a_pack_inside_a_folder_is_ignored(folder: Path) -> None:
    Pack.from_arrays([np.stack([picture(3), picture(8)])], folder / "p.pack")
    assert list(open_listed(folder).names) == SORTED


def test_fingerprints_change_with_the_content(folder: Path, archive: Path, tmp_path: Path) -> None:
    for path in (folder, archive):
        before = list(open_listed(path).fingerprint())
        assert list(open_listed(path).fingerprint()) == before
        assert len(before) == 6
    before = list(open_listed(folder).fingerprint())
    (folder / "b.png").write_bytes(png(200))
    os.utime(folder / "b.png", ns=(1, 1))
    assert list(open_listed(folder).fingerprint()) != before
    np.save(tmp_path / "a.npy", np.zeros((4, 4, 4), np.uint8))
    before = list(open_listed(tmp_path / "a.npy").fingerprint())
    np.save(tmp_path / "a.npy", np.zeros((5, 4, 4), np.uint8))
    assert list(open_listed(tmp_path / "a.npy").fingerprint()) != before


def test_a_changed_zarr_store_in_a_folder_is_noticed(folder: Path) -> None:
    store = zarr.create_array(folder / "s.zarr", data=np.ones((3, 4, 4), np.uint8), chunks=(1, 4, 4))
    before = list(open_listed(folder).fingerprint())
    assert len(before) == 7  # one entry for each file
    store[1] = 7
    assert list(open_listed(folder).fingerprint()) != before


def test_stacks_in_an_archive_are_refused(tmp_path: Path) -> None:
    pages = io.BytesIO()
    tifffile.imwrite(pages, np.zeros((12, 6, 6), np.uint8), metadata={"axes": "TYX"})
    for name, data in {
        "scans": {"a/0.dcm": b"x"},
        "pages": {"a.tif": pages.getvalue()},
        "texts": {"a.txt": b""},
    }.items():
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as file:
            for inside, content in data.items():
                file.writestr(inside, content)
    with pytest.raises(DataError, match=r"scans\.zip: holds a/0\.dcm, which is not read inside a \.zip; unpack it"):
        open_listed(tmp_path / "scans.zip")
    with pytest.raises(DataError, match=r"texts\.zip: no images found, .* \.jpg .* \.npy .*; check the path"):
        open_listed(tmp_path / "texts.zip")
    with pytest.raises(DataError, match=r"a\.tif: holds 12 images \(axes TYX\), .*; unpack it and give the folder"):
        open_listed(tmp_path / "pages.zip").read(0, SPEC)


def test_truth_values_are_black_and_white(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.eye(4, dtype=bool)[None])
    got = open_listed(tmp_path / "a.npy").read(0, ImageSpec(channels=1))
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got[..., 0], 255 * np.eye(4))


def test_a_broken_image_in_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("good.png", png(1))
        file.writestr("lost.png", png(2))
    data = bytearray(path.read_bytes())
    data[data.index(b"lost.png") + 40] ^= 255  # inside the stored file
    path.write_bytes(data)
    source = open_listed(path)
    assert source.read(0, SPEC)[0, 0, 0] == 1
    with pytest.raises(DataError, match=r"lost\.png: cannot be unpacked \(Bad CRC-32"):
        source.read(1, SPEC)


def test_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "bad.zip").write_text("hello")
    (tmp_path / "bad.npy").write_text("hello")
    (tmp_path / "bad.npz").write_text("hello")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as file:
        file.writestr("a.txt", "hello")
    np.savez(tmp_path / "none.npz")
    np.save(tmp_path / "flat.npy", np.zeros((4, 4), np.uint8))
    np.save(tmp_path / "fortran.npy", np.asfortranarray(np.ones((4, 4, 4), np.uint8)))
    cut = np.zeros((4, 4, 4), np.uint8)
    np.save(tmp_path / "cut.npy", cut)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-1])
    for name, message in {
        "gone": "there is no such file or folder; check the path",
        "empty": "no images found, .*; check the path",
        "empty.zip": "no images found, .*; check the path",
        "text.txt": "must be a folder, .zip, .npy, .npz, .tif, .* or .pack; give the folder",
        "bad.zip": "is not a complete .zip",
        "bad.npy": "is not a complete .npy file",
        "bad.npz": "is not a complete .npz",
        "none.npz": "holds no array",
        "flat.npy": r"has shape \(4, 4\), it must be \(n, h, w\)",
        "fortran.npy": "must be an array in C order",
        "cut.npy": "is not a complete .npy file",
    }.items():
        with pytest.raises(DataError, match=rf"{name}: .*{message}.*"):
            open_listed(tmp_path / name)


def test_a_file_that_vanishes(folder: Path) -> None:
    source = open_listed(folder)
    (folder / "b.png").unlink()
    with pytest.raises(DataError, match=r"b\.png: cannot be opened"):
        source.read(2, SPEC)


@pytest.mark.parametrize("name", ["gone.png", "gone.tif", "gone.nii.gz"])
def test_a_broken_link_is_left_out(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).symlink_to(tmp_path / "nowhere")
    source = open_listed(folder)
    assert (name, -1, -1) in source.fingerprint()
    with pytest.raises(DataError, match=name):
        source.read(source.names.index(name), SPEC)
    pack = build_pack(folder, tmp_path / "cache", size=4, workers=1)
    assert [left_out for left_out, _ in pack.skipped] == [name]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_and_a_device_among_the_images_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(os.devnull)
    source = open_listed(tmp_path, 3)
    assert list(source.names) == ["a.png", "b.png"]
    for index, name in enumerate(source.names):
        with pytest.raises(DataError, match=f"image {name}: is not a regular file; remove it"):
            source.read(index, SPEC)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the administrator reads every folder")
def test_a_folder_that_may_not_be_read_is_left_out(folder: Path) -> None:
    """As lost+found is."""
    (folder / "lost+found").mkdir(mode=0)
    assert list(open_listed(folder).names) == SORTED


def patched(archive: Path, offset: int, value: int) -> Path:
    """An archive whose directory has another 16-bit field in every entry."""
    data = bytearray(archive.read_bytes())
    at = data.find(b"PK\1\2")
    while at >= 0:
        data[at + offset : at + offset + 2] = value.to_bytes(2, "little")
        at = data.find(b"PK\1\2", at + 1)
    archive.write_bytes(data)
    return archive


def test_an_archive_of_another_version_is_refused(archive: Path) -> None:
    with pytest.raises(DataError, match=r"photos\.zip: is not a complete \.zip \(.*version.*\); make it again"):
        open_listed(patched(archive, 6, 99))


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (8, 1, "cannot be unpacked .*password|cannot be unpacked .*encrypted"),
        (10, zipfile.ZIP_LZMA, "is compressed by method 14; store it, or use deflate"),
        (10, 77, "is compressed by method 77"),
    ],
)
def test_members_that_cannot_be_unpacked_are_named(archive: Path, offset: int, value: int, message: str) -> None:
    source = open_listed(patched(archive, offset, value))
    with pytest.raises(DataError, match=f"image .*{message}"):
        source.read(0, SPEC)


def test_a_member_is_unpacked_up_to_the_size_that_it_states(tmp_path: Path) -> None:
    """Otherwise a few bytes would become gigabytes."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.png", png(1) + bytes(10**7))
    data = bytearray((tmp_path / "a.zip").read_bytes())
    for mark, offset in ((b"PK\1\2", 24), (b"PK\3\4", 22)):
        at = data.find(mark) + offset
        data[at : at + 4] = len(png(1)).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(data)
    source = open_listed(tmp_path / "a.zip")
    tracemalloc.start()
    with pytest.raises(DataError, match=r"image a\.png: cannot be unpacked"):
        source.read(0, SPEC)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_pictures_of_types_that_are_not_read_are_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.HEIC", "a/b.heic", "c.psd", ".hidden.heic", "notes.md"):
        (folder / name).write_bytes(b"")
    assert list(open_listed(folder).names) == SORTED
    assert caplog.messages == [f"images {folder}: files of types that are not read are left out: 2 .heic, 1 .psd"]


def test_a_failing_disk_is_no_reason_to_leave_an_image_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a pack without it would be kept and used again."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    source = open_listed(tmp_path, 3)

    def fails(_: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", fails)
    with pytest.raises(OSError, match="Input/output error"):
        source.read(0, ImageSpec(3))
