"""An interrupted pack is resumed if, and only if, the images read so far are unchanged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import layouts
import numpy as np
import pytest
from layouts import encoded, number_of, sample, tar

from diffae.data import arrays
from diffae.data.build import Building, prepare_pack
from diffae.data.images import ImageSpec
from diffae.data.pack import Pack, writer
from diffae.data.pack.writer import PackWriter
from diffae.data.sources import open_source
from diffae.data.sources.files import FolderSource
from diffae.errors import DataError

SPEC = ImageSpec(channels=3, size=8)
COUNT = 20


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("diffae.data.build.parallel._CHUNK", 2)
    return layouts.write(tmp_path / "in", {f"{i:02d}.png": encoded(i) for i in range(COUNT)})


def prepared(folder: Path, spec: ImageSpec = SPEC, *, strict: bool = True) -> Pack:
    return prepare_pack(
        open_source(folder), folder.parent / "a.pack", spec, source="in", building=Building(1, strict=strict)
    )


def interrupted(folder: Path, at: str, *, strict: bool = True) -> None:
    """Prepare a pack and press Ctrl-C while an image is read."""
    reading = FolderSource.read

    def read(self: FolderSource, index: int, spec: ImageSpec) -> np.ndarray:
        if self.names[index] == at:
            raise KeyboardInterrupt
        return reading(self, index, spec)

    FolderSource.read = read
    try:
        with pytest.raises(KeyboardInterrupt):
            prepared(folder, strict=strict)
    finally:
        FolderSource.read = reading
    assert not (folder.parent / "a.pack").exists()


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    read, reading = [], FolderSource.read
    monkeypatch.setattr(
        FolderSource, "read", lambda self, index, spec: (read.append(self.names[index]), reading(self, index, spec))[1]
    )
    return read


def check(pack: Pack, numbers: list[int]) -> None:
    assert [number_of(image) for image in pack.fetch(np.arange(len(pack)))] == numbers
    assert sorted(path.name for path in pack.path.parent.iterdir()) == [".lock", "a.pack", "in"]
    assert sorted(path.name for path in pack.path.iterdir()) == ["images.npy", "index.json", "names.txt"]


def test_it_resumes_where_it_stopped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "03.png").write_bytes(b"no image")
    interrupted(folder, "13.png", strict=False)
    names = reads(monkeypatch)
    pack = prepared(folder, strict=False)
    assert names == [f"{i:02d}.png" for i in range(12, COUNT)]
    assert [name for name, _ in pack.skipped] == ["03.png"]
    check(pack, [i for i in range(COUNT) if i != 3])


def test_it_resumes_if_finishing_was_interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        flushing = PackWriter._flush

        def flush(self: PackWriter) -> None:
            patched.setattr(PackWriter, "_flush", flushing)  # the progress saved on leaving comes through
            raise KeyboardInterrupt

        patched.setattr(PackWriter, "_flush", flush)
        with pytest.raises(KeyboardInterrupt):
            prepared(folder)
    names = reads(monkeypatch)
    check(prepared(folder), list(range(COUNT)))
    assert names == []


def test_it_resumes_if_writing_was_interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between images and their names: the next run writes both again."""
    written = []

    encode = arrays.encode_name

    def encode_or_stop(name: str) -> bytes:
        written.append(name)
        if len(written) == COUNT // 2 - 1:
            raise KeyboardInterrupt
        return encode(name)

    with monkeypatch.context() as patched:
        patched.setattr(writer, "encode_name", encode_or_stop)
        with pytest.raises(KeyboardInterrupt):
            prepared(folder)
    check(prepared(folder), list(range(COUNT)))


def test_it_resumes_after_being_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = """
        import os, signal, sys
        from pathlib import Path
        from diffae.data.build import Building, parallel, prepare_pack
        from diffae.data.pack import writer
        from diffae.data.sources.files import FolderSource
        from diffae.data.images import ImageSpec

        parallel._CHUNK, writer._SAVE_EVERY, reading = 2, 0, FolderSource.read

        def read(self, index, spec):
            if index == 15:
                os.kill(os.getpid(), signal.SIGKILL)
            return reading(self, index, spec)

        FolderSource.read = read
        spec, building = ImageSpec(channels=3, size=8), Building(1, strict=True)
        prepare_pack(FolderSource(Path(sys.argv[1]), 3), sys.argv[2], spec, source="in", building=building)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), folder, folder.parent / "a.pack"]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    # what was written after the progress was saved last is cut off
    with (folder.parent / ".a.pack.partial" / "images.npy").open("ab") as file:
        file.write(b"half a row")
    names = reads(monkeypatch)
    pack = prepared(folder)
    assert 4 < COUNT - len(names) <= 14
    check(pack, list(range(COUNT)))


def touch(folder: Path) -> None:
    os.utime(folder / "02.png", ns=(1, 1))


def spoil(folder: Path) -> None:
    (folder.parent / ".a.pack.partial" / writer.PROGRESS).write_text('{"done": 8')


def shorten(folder: Path) -> None:
    os.truncate(folder.parent / ".a.pack.partial" / "images.npy", 200)


@pytest.mark.parametrize("change", [touch, spoil, shorten])
def test_it_restarts_if_images_already_read_have_changed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    interrupted(folder, "13.png")
    change(folder)
    names = reads(monkeypatch)
    check(prepared(folder), list(range(COUNT)))
    assert len(names) == COUNT


def test_it_restarts_with_other_settings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(folder, "13.png")
    names = reads(monkeypatch)
    check(prepared(folder, ImageSpec(channels=3, size=4)), list(range(COUNT)))
    assert len(names) == COUNT


def test_nothing_is_kept_if_nothing_was_read(folder: Path) -> None:
    (folder / "00.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"00\.png: .* \(left out with --incomplete, or without --strict\)"):
        prepared(folder)
    assert sorted(path.name for path in folder.parent.iterdir()) == [".lock", "in"]


def test_strict_does_not_accept_images_left_out_before(folder: Path) -> None:
    (folder / "03.png").write_bytes(b"no image")
    interrupted(folder, "13.png", strict=False)
    with pytest.raises(DataError, match=r"03\.png: is not a"):
        prepared(folder)


def test_it_resumes_if_images_were_added_at_the_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(folder, "13.png")
    layouts.write(folder, {"20.png": encoded(20)})
    names = reads(monkeypatch)
    check(prepared(folder), list(range(COUNT + 1)))
    assert len(names) == COUNT + 1 - 12


def test_labels_are_resumed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffae.data.build.parallel._CHUNK", 2)
    good = {key: data for i in range(8) for key, data in sample(i, cls=b"%d" % i).items()}
    path = tar(tmp_path / "a.tar", {**good, "000005.png": b"no image"})
    stamp = path.stat()
    with pytest.raises(DataError, match=r"000005\.png"):
        prepare_pack(open_source(path), tmp_path / "a.pack", SPEC, source="a", building=Building(1, strict=True))
    done = json.loads((tmp_path / ".a.pack.partial" / writer.PROGRESS).read_text())["done"]
    assert done == 4
    tar(path, {**good, "000005.png": encoded(5)})
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # an archive is one file: changed, it is read again
    size = path.stat().st_size
    assert size == stamp.st_size
    pack = prepare_pack(open_source(path), tmp_path / "a.pack", SPEC, source="a", building=Building(1, strict=True))
    assert pack.labels is not None
    assert pack.labels.column("class").tolist() == list(range(8))


def test_another_pack_is_not_replaced(folder: Path) -> None:
    prepared(folder)
    with pytest.raises(DataError, match=r"a\.pack: exists already, of other content; remove it or choose another"):
        prepared(folder, ImageSpec(channels=3, size=4))
