"""LMDBs, WebDataset shards and published data sets are read one after another, from any place on, with their labels."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from pathlib import Path

import datasets
import layouts
import lmdb
import numpy as np
import pytest
from layouts import encoded, number_of, picture, sample, tar

from diffae.data.build import Building, build_pack, prepare_pack
from diffae.data.images import ImageSpec
from diffae.data.pack import Pack
from diffae.data.sources import Source, hub, lmdb_files, open_listed, open_source, webdataset
from diffae.data.sources.hub import HubSource
from diffae.errors import ConfigError, DataError

SPEC = ImageSpec(channels=3, size=8)


def told(stream: Source, start: int = 0) -> list[tuple[str, int, tuple[str, ...]]]:
    """Name, number and labels of each image."""
    assert isinstance(stream, Source)
    return [(item.name, number_of(item.read(SPEC)), item.labels) for item in stream.items(start)]


# ---------------------------------------------------------------------- LMDB


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
    assert told(stream) == wanted
    assert [told(stream, start) for start in range(7)] == [wanted[start:] for start in range(7)]
    assert told(open_source((path / "data.mdb").rename(tmp_path / "one.lmdb"))) == wanted


@pytest.mark.parametrize("mapped", [2, 4096])
def test_a_numbered_lmdb_from_any_place_on(tmp_path: Path, mapped: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb_files, "_MAPPED", mapped)
    stream = open_source(layouts.published(tmp_path / "a.lmdb", 5, "None-", 7, "PNG"))
    wanted = [(f"None-{i:07d}", i, ()) for i in range(5)]
    assert [told(stream, start) for start in range(6)] == [wanted[start:] for start in range(6)]


def test_generated_images_of_the_published_repository(tmp_path: Path) -> None:
    """Its image writer leaves the resolution out of the keys."""
    assert told(open_source(layouts.published(tmp_path / "a", 3, "", 7, "WEBP"))) == [
        (f"{i:07d}", i, ()) for i in range(3)
    ]


def test_keys_that_cannot_be_printed_are_named_in_hexadecimal(tmp_path: Path) -> None:
    assert told(open_source(layouts.write_lmdb(tmp_path / "a", {"a\nb": encoded(3)}))) == [("610a62", 3, ())]


def test_what_is_no_lmdb(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "data.mdb").write_bytes(b"hello" * 2000)
    with pytest.raises(DataError, match=r"images .*bad: is not a whole LMDB \(.*\); get it again"):
        open_source(tmp_path / "bad")
    with pytest.raises(DataError, match="the LMDB holds no images"):
        open_source(layouts.write_lmdb(tmp_path / "empty", {"length": b"0"}))
    with pytest.raises(DataError, match="its length is b'many', it must be a number"):
        open_source(layouts.write_lmdb(tmp_path / "odd", {"256-00000": encoded(1), "length": b"many"}))


@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_truncated_lmdb_is_refused(tmp_path: Path, kept: float) -> None:
    """Reading beyond the end of its file would kill the process."""
    path = layouts.write_lmdb(tmp_path / "a", {f"k{i:03d}": bytes(3000) for i in range(60)})
    size = (path / "data.mdb").stat().st_size
    os.truncate(path / "data.mdb", int(kept * size))
    with pytest.raises(DataError, match=r"a: is not a whole LMDB \(it has \d+ of \d+ pages\); get it again"):
        open_source(path)


def test_an_lmdb_whose_last_pages_were_never_written_is_whole(tmp_path: Path) -> None:
    """Pages that a transaction took and gave back need not be in the file."""
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
    assert [number for _, number, _ in told(open_source(path))] == [7, *range(1, 20)]
    os.truncate(path / "data.mdb", 10 * page)
    with pytest.raises(DataError, match="is not a whole LMDB"):
        open_source(path)


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lmdb", None)
    layouts.write(tmp_path, {"data.mdb": b""})
    with pytest.raises(ConfigError, match=r"needs lmdb, which is not installed; pip install 'diffae\[lmdb\]'"):
        open_source(tmp_path)


# ---------------------------------------------------------------------- WebDataset


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
    assert told(stream) == wanted
    assert told(stream, 2) == wanted[2:]
    assert told(open_source(tmp_path)) == wanted
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
    assert told(open_source(path)) == [("a/0.left.png", 2, ()), ("b/0.jpg", 7, ())]  # one image of each sample


def test_a_folder_of_images_is_no_set_of_shards(tmp_path: Path) -> None:
    layouts.write(tmp_path, {"a.png": encoded(1), "b.png": encoded(2)})
    tar(tmp_path / "backup.tar", sample(3))
    assert isinstance(open_source(tmp_path), Source)


def test_images_below_make_a_folder_no_set_of_shards(tmp_path: Path) -> None:
    layouts.write(tmp_path / "photos", {"a.png": encoded(1)})
    tar(tmp_path / "backup.tar", sample(3))
    assert open_listed(tmp_path).names == ["photos/a.png"]


def test_a_pack_below_shards_does_not_hide_them(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", sample(3))
    Pack.from_arrays([picture(1)[None]], tmp_path / "b.pack")
    assert told(open_source(tmp_path)) == [("000003.png", 3, ())]


def test_labels_that_the_first_sample_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(webdataset, "_LOOKED_AT", 3)
    path = tar(tmp_path / "a.tar", {**sample(0), **sample(1, cls=b"cat"), **sample(2), **sample(3, json=b'{"age": 4}')})
    stream = open_source(path)
    assert isinstance(stream, Source)
    assert stream.columns == ("class",)
    assert [labels for _, _, labels in told(stream)] == [("",), ("cat",), ("",), ("",)]
    assert (
        "000003.png has the label 'age', which none of the first 3 samples has; such labels are left out" in caplog.text
    )


def test_labels_of_any_content_make_a_pack_that_can_be_read(tmp_path: Path) -> None:
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
def test_shards_that_end_too_early(tmp_path: Path, damage: str, packed: bool) -> None:
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
    reason = r"images .*cut\.tar.*: is not a whole tar archive \(.*\); get it again"
    with pytest.raises(DataError, match=rf"^{reason} \(left out with --incomplete"):
        prepare_pack(stream, tmp_path / "a.pack", SPEC, source="cut")
    pack = prepare_pack(stream, tmp_path / "a.pack", SPEC, source="cut", building=Building(strict=False))
    assert list(pack.names) == ["000001.png", "000002.png"]
    assert [name for name, _ in pack.skipped] == [path.name]
    with pytest.raises(DataError, match=rf"^{reason}$"):
        told(open_source(path))


def test_a_packed_shard_that_is_damaged_inside(tmp_path: Path) -> None:
    """Its samples can be read, but not as they were."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    buffer = io.BytesIO()
    np.save(buffer, noise)
    path = tar(tmp_path / "a.tgz", {**sample(1), "000002.npy": buffer.getvalue(), **sample(3)}, "w:gz")
    data = bytearray(path.read_bytes())
    data[-400:-300] = bytes(100)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.tgz: is not a whole tar archive"):
        told(open_source(path))


def test_damaged_shards(tmp_path: Path) -> None:
    whole = tar(tmp_path / "whole.tar", {**sample(1), **sample(2)}).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:1800])  # inside the second image
    (tmp_path / "bad.tar").write_bytes(b"hello" * 1000)
    with pytest.raises(DataError, match=r"cut\.tar: is not a whole tar archive"):
        told(open_source(tmp_path / "cut.tar"))
    with pytest.raises(DataError, match=r"bad\.tar: is not a whole tar archive \(.*\); get it again$"):  # in one line
        open_source(tmp_path / "bad.tar")
    with pytest.raises(DataError, match=r"there is no .*whole-2\.tar; check the path"):
        open_source(tmp_path / "whole-{2..3}.tar")
    with pytest.raises(DataError, match=r"texts\.tar: no images found"):
        open_source(tar(tmp_path / "texts.tar", {"a.txt": b"hello"}))
    with pytest.raises(DataError, match=r"labels of a sample are damaged"):
        open_source(tar(tmp_path / "labels.tar", sample(1, json=b"{")))


# ---------------------------------------------------------------------- the Hugging Face Hub


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """owner/name in the current folder, which the datasets library prefers to the Hub's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "picture": datasets.Image(),
            "kind": datasets.ClassLabel(names=["cat", "dog"]),
            "age": datasets.Value("float32"),
            "seen": datasets.Value("bool"),
            "other": datasets.Image(),
        }
    )
    for split, numbers in {"train": range(6), "test": range(6, 10)}.items():
        rows = [
            {"text": "a", "picture": {"bytes": encoded(i), "path": None}, "kind": -1 if i == 5 else i % 2,
             "age": None if i == 4 else i / 2, "seen": i < 3, "other": {"bytes": encoded(25 - i), "path": None}}
            for i in numbers
        ]  # fmt: skip
        (tmp_path / "owner/name").mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / f"owner/name/{split}.parquet")
    return tmp_path / "owner/name"


WANTED = [
    *[(f"{i:08d}", i, ("dog" if i % 2 else "cat", str(i / 2), "1" if i < 3 else "0")) for i in range(4)],
    ("00000004", 4, ("cat", "", "0")),
    ("00000005", 5, ("", "2.5", "0")),
]


@pytest.mark.parametrize("streamed", [True, False])
def test_a_published_data_set(repository: Path, streamed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not streamed:  # a local folder does not state its size, as the Hub does
        load = datasets.load_dataset_builder

        def stated(*args, **more):
            builder = load(*args, **more)
            builder.info.dataset_size = 10**6
            return builder

        monkeypatch.setattr(datasets, "load_dataset_builder", stated)
    stream = open_source("hf://owner/name")
    assert isinstance(stream, HubSource)
    assert isinstance(stream._rows, datasets.IterableDataset if streamed else datasets.Dataset)
    assert stream.columns == ("kind", "age", "seen")
    assert told(stream) == WANTED
    assert told(stream, 4) == WANTED[4:]
    assert [number for _, number, _ in told(open_source("hf://owner/name?split=test"))] == [6, 7, 8, 9]
    assert [number for _, number, _ in told(open_source("hf://owner/name?image=other"))] == [25, 24, 23, 22, 21, 20]


def test_a_published_data_set_becomes_a_pack_that_is_found_again(repository: Path, tmp_path: Path) -> None:
    first = build_pack("hf://owner/name", tmp_path / "packs", size=8)
    assert first.labels is not None
    assert first.labels.classes == {"kind": ("cat", "dog")}
    assert build_pack("hf://owner/name", tmp_path / "packs", size=8).path == first.path
    assert build_pack("hf://owner/name?split=test", tmp_path / "packs", size=8).path != first.path
    os.utime(repository / "train.parquet", ns=(1, 1))
    assert build_pack("hf://owner/name", tmp_path / "packs", size=8).path != first.path


@pytest.mark.parametrize(
    ("names", "classes"), [([f"kind {i}" for i in range(120)], None), (["0", "cat"], ("0", "cat"))]
)
def test_classes_of_any_number_and_name(repository: Path, tmp_path: Path, names: list[str], classes: tuple) -> None:
    Path("owner/many").mkdir()
    features = {"image": datasets.Image(), "kind": datasets.ClassLabel(names=names), "v": datasets.Value("float64")}
    rows = [
        {"image": {"bytes": encoded(i % 20), "path": None}, "kind": i % len(names), "v": [1.5, float("nan")][i % 2]}
        for i in range(len(names))
    ]
    rows[0]["v"] = float("inf")
    datasets.Dataset.from_list(rows, datasets.Features(features)).to_parquet("owner/many/train.parquet")
    pack = prepare_pack(open_source("hf://owner/many"), tmp_path / "a.pack", SPEC, source="many")
    assert pack.labels is not None
    assert pack.labels.classes == ({"kind": classes} if classes else {})
    assert pack.labels.kinds["v"] == "number"
    assert len(list(open_source(pack.path).items())) == len(names)  # type: ignore[union-attr]


def test_images_that_a_data_set_only_names(repository: Path) -> None:
    """A row may hold the path of a file instead of its bytes."""
    Path("a.png").write_bytes(encoded(7))
    assert number_of(hub._read({"bytes": None, "path": "a.png"}, "a", SPEC)) == 7
    with pytest.raises(DataError, match=r"image b: cannot be read .*; try again"):
        hub._read({"bytes": None, "path": "b.png"}, "b", SPEC)
    with pytest.raises(DataError, match=r"image c: the row holds no image"):
        hub._read(None, "c", SPEC)


def test_addresses_that_lead_nowhere(repository: Path) -> None:
    for address, message in {
        "hf://owner/nothing": r"cannot be read \(.*\); check the name, the network and access",
        "hf://owner/name?split=tset": r"has no split 'tset'; add \?split= one of",
        "hf://owner/name?image=text": r"has no column 'text' of images, its columns are text, picture, kind",
        "hf://owner/name?config=big": r"cannot be read \(BuilderConfig 'big' not found",
        "hf://owner/name?splits=test": r"must be hf://owner/name, with \?config=",
        "hf://": "must be hf://owner/name",
    }.items():
        with pytest.raises(DataError, match=message) as caught:
            open_source(address)
        assert "\n" not in str(caught.value)


def test_a_data_set_without_images(repository: Path) -> None:
    Path("owner/texts").mkdir()
    datasets.Dataset.from_dict({"text": ["a"]}).to_parquet("owner/texts/train.parquet")
    with pytest.raises(DataError, match=r"has no column of images, its columns are text"):
        open_source("hf://owner/texts")


# ---------------------------------------------------------------------- packs


def test_labels_follow_a_pack_into_another(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", {**sample(1, cls=b"0"), **sample(2, cls=b"1")})
    first = prepare_pack(open_source(tmp_path / "a.tar"), tmp_path / "a.pack", SPEC, source="a")
    small = build_pack(first.path, tmp_path / "packs", size=4)
    assert small.labels is not None
    assert small.labels.column("class").tolist() == [0, 1]
    assert Pack.from_arrays([picture(1)[None]], tmp_path / "b.pack").labels is None


def test_sixteen_bit_images_in_a_stream(tmp_path: Path) -> None:
    """The pack is begun again, which opens the LMDB again."""
    buffer = io.BytesIO()
    np.save(buffer, np.full((8, 8), 12345, np.uint16))
    entries = {f"{i:03d}": encoded(i % 20) for i in range(40)} | {"040": buffer.getvalue()}
    stream = open_source(layouts.write_lmdb(tmp_path / "a", entries))
    pack = prepare_pack(stream, tmp_path / "a.pack", SPEC, source="a")
    assert (pack.dtype, pack.fetch(np.array([40])).max()) == (np.uint16, 12345)
    assert number_of(pack.fetch(np.array([7]))[0] / 257) == 7


def test_what_must_be_listed_cannot_be_a_stream(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", sample(1))
    with pytest.raises(DataError, match=r"can only be read one after another, .*: diffae data prepare images .*a\.tar"):
        open_listed(path)
    assert open_listed(layouts.write(tmp_path / "in", {"a.png": encoded(1)})).names == ["a.png"]
