"""WebDataset shards are read sample by sample, with their labels, up to any damage."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import layouts
import numpy as np
import pytest
from layouts import contents, encoded, picture, sample, tar

from diffae.data.build import Building, prepare_pack
from diffae.data.images import ImageSpec
from diffae.data.pack import Pack
from diffae.data.sources import Source, open_listed, open_source, webdataset
from diffae.errors import DataError

SPEC = ImageSpec(channels=3, size=8)


def test_shards_with_labels(tmp_path: Path) -> None:
    def of(number: int) -> dict[str, bytes]:
        facts = {"age": 1.5 * number, "smiling": bool(number % 2), "text": "a face", "count": number}
        return sample(number, cls=b"%d" % (number % 3), json=json.dumps(facts).encode())

    tar(tmp_path / "shard-00.tar", {**of(0), **of(1), "000002.txt": b"no image"})
    tar(tmp_path / "shard-01.tar", {**of(3), "000004.png": encoded(4)})
    stream = open_source(tmp_path / "shard-{00..01}.tar")
    assert isinstance(stream, Source)
    assert stream.columns == ("class", "age", "smiling", "count")
    wanted = [
        ("shard-00.tar/000000.png", 0, ("0", "0.0", "0", "0")),
        ("shard-00.tar/000001.png", 1, ("1", "1.5", "1", "1")),
        ("shard-01.tar/000003.png", 3, ("0", "4.5", "1", "3")),
        ("shard-01.tar/000004.png", 4, ("", "", "", "")),
    ]
    assert contents(stream) == wanted
    assert contents(stream, 2) == wanted[2:]
    assert contents(open_source(tmp_path)) == wanted
    pack = prepare_pack(stream, tmp_path / "a.pack", SPEC, source="shards")
    assert pack.labels is not None
    assert pack.labels.kinds == {"class": "binary", "age": "number", "smiling": "binary", "count": "number"}
    assert np.array_equal(pack.labels.column("age"), [0, 1.5, 4.5, np.nan], equal_nan=True)


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tgz"])
def test_one_archive(tmp_path: Path, suffix: str) -> None:
    files = {
        "a/0.left.png": encoded(2),
        "a/0.right.png": encoded(9),
        "a/.hidden.png": b"",
        "b/0.jpg": encoded(7, "JPEG"),
    }
    path = tar(tmp_path / f"one.{suffix}", files, "w" if suffix == "tar" else "w:gz")
    assert contents(open_source(path)) == [("a/0.left.png", 2, ()), ("b/0.jpg", 7, ())]  # one image of each sample


def test_images_beside_a_tar_make_the_folder_one_of_images(tmp_path: Path) -> None:
    layouts.write(tmp_path, {"a.png": encoded(1), "b.png": encoded(2)})
    tar(tmp_path / "backup.tar", sample(3))
    assert isinstance(open_source(tmp_path), Source)


def test_images_in_subfolders_make_it_one_of_images_too(tmp_path: Path) -> None:
    layouts.write(tmp_path / "photos", {"a.png": encoded(1)})
    tar(tmp_path / "backup.tar", sample(3))
    assert open_listed(tmp_path).names == ["photos/a.png"]


def test_a_pack_beside_shards_is_ignored(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", sample(3))
    Pack.from_arrays([picture(1)[None]], tmp_path / "b.pack")
    assert contents(open_source(tmp_path)) == [("000003.png", 3, ())]


def test_labels_that_only_later_samples_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(webdataset, "_LOOKED_AT", 3)
    path = tar(tmp_path / "a.tar", {**sample(0), **sample(1, cls=b"cat"), **sample(2), **sample(3, json=b'{"age": 4}')})
    stream = open_source(path)
    assert isinstance(stream, Source)
    assert stream.columns == ("class",)
    assert [labels for _, _, labels in contents(stream)] == [("",), ("cat",), ("",), ("",)]
    assert (
        "000003.png has the label 'age', which none of the first 3 samples has; such labels are left out" in caplog.text
    )


def test_labels_of_any_content_can_be_read_back_from_the_pack(tmp_path: Path) -> None:
    facts = {"a": 1, "a ": 2, "b;c": 3, "file": 4, "no\nend": float("inf"), "huge": 10**400}
    files = sample(0, cls=b"cat", json=json.dumps(facts).encode())
    for number in range(1, 120):
        more = {"cls": f"kind{number}".encode(), "json": b"[1, 2]" if number % 2 else b"null"}
        files |= {f"{number:06d}.{suffix}": data for suffix, data in {"png": encoded(1), **more}.items()}
    pack = prepare_pack(open_source(tar(tmp_path / "a.tar", files)), tmp_path / "a.pack", SPEC, source="a")
    assert pack.labels is not None
    assert pack.labels.columns == ("a", "a 2", "b c", "file", "no end", "huge")  # not the 120 classes
    assert np.array_equal(pack.labels.values[0], [1, 2, 3, 4, np.nan, np.nan], equal_nan=True)
    assert np.isnan(pack.labels.values[1:]).all()


@pytest.mark.parametrize("damage", ["between samples", "inside a header", "header"])
@pytest.mark.parametrize("packed", [False, True])
def test_truncated_shards(tmp_path: Path, damage: str, packed: bool) -> None:
    whole = tar(tmp_path / "whole.tar", {**sample(1), **sample(2), **sample(3)}).read_bytes()
    with tarfile.open(tmp_path / "whole.tar") as archive:
        place = archive.getmembers()[2].offset
    data = {
        "between samples": whole[:place],
        "inside a header": whole[: place + 300],
        "header": whole[:place] + b"\xff" * 512 + whole[place + 512 :],
    }[damage]
    path = tmp_path / ("cut.tar.gz" if packed else "cut.tar")
    path.write_bytes(gzip.compress(data) if packed else data)
    stream = open_source(path)
    reason = r"images .*cut\.tar.*: is not a complete tar archive \(.*\); get it again"
    with pytest.raises(DataError, match=rf"^{reason} \(left out with --incomplete"):
        prepare_pack(stream, tmp_path / "a.pack", SPEC, source="cut")
    pack = prepare_pack(stream, tmp_path / "a.pack", SPEC, source="cut", building=Building(strict=False))
    assert list(pack.names) == ["000001.png", "000002.png"]
    assert [name for name, _ in pack.skipped] == [path.name]
    with pytest.raises(DataError, match=rf"^{reason}$"):
        contents(open_source(path))


def test_a_compressed_shard_with_a_wrong_checksum(tmp_path: Path) -> None:
    """Its samples can be read, but with other content."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    buffer = io.BytesIO()
    np.save(buffer, noise)
    path = tar(tmp_path / "a.tgz", {**sample(1), "000002.npy": buffer.getvalue(), **sample(3)}, "w:gz")
    data = bytearray(path.read_bytes())
    data[-400:-300] = bytes(100)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.tgz: is not a complete tar archive"):
        contents(open_source(path))


def test_damaged_shards(tmp_path: Path) -> None:
    whole = tar(tmp_path / "whole.tar", {**sample(1), **sample(2)}).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:1800])  # inside the second image
    (tmp_path / "bad.tar").write_bytes(b"hello" * 1000)
    with pytest.raises(DataError, match=r"cut\.tar: is not a complete tar archive"):
        contents(open_source(tmp_path / "cut.tar"))
    with pytest.raises(DataError, match=r"bad\.tar: is not a complete tar archive \(.*\); get it again$"):
        open_source(tmp_path / "bad.tar")
    with pytest.raises(DataError, match=r"there is no .*whole-2\.tar; check the path"):
        open_source(tmp_path / "whole-{2..3}.tar")
    with pytest.raises(DataError, match=r"texts\.tar: no images found"):
        open_source(tar(tmp_path / "texts.tar", {"a.txt": b"hello"}))
    with pytest.raises(DataError, match=r"labels of a sample are damaged"):
        open_source(tar(tmp_path / "deep.tar", sample(1, json=b"[" * 100_000)))
    with pytest.raises(DataError, match=r"labels of a sample are damaged"):
        open_source(tar(tmp_path / "labels.tar", sample(1, json=b"{")))


@pytest.mark.parametrize("pattern", ["s-{0..999999999}.tar", "s-{0..999}-{0..999}.tar", "s-{0..99999999999999}.tar"])
def test_the_expansion_of_a_pattern_is_limited(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(DataError, match=r"the limit is 100000; shorten the range|there is no "):
        open_source(tmp_path / pattern)


def header(name: str, length: int, kind: bytes, **facts: str) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.pax_headers = length, kind, facts
    return info.tobuf(tarfile.PAX_FORMAT)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (header("a", 2**32, tarfile.XHDTYPE), "a header of 4294967296 bytes, the limit is 1048576"),
        (header("a", 2**32, tarfile.GNUTYPE_LONGNAME), "a header of 4294967296 bytes, the limit is 1048576"),
        (header("000001.json", 2**32, tarfile.REGTYPE), "has 4294967296 bytes, the limit is 4194304"),
        (header("000001.png", 2**32, tarfile.REGTYPE), "has 4294967296 bytes, the limit is"),
        (header("000001.png", 0, tarfile.REGTYPE, size="-512"), "is not a complete tar archive"),
    ],
)
def test_a_few_bytes_take_no_memory(tmp_path: Path, start: bytes, message: str) -> None:
    (tmp_path / "a.tar").write_bytes(start + bytes(1024))
    with pytest.raises(DataError, match=message):
        contents(open_source(tmp_path / "a.tar"))
