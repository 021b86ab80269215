"""The paper's data sets are read from every layout in which they are distributed."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from hashlib import md5
from pathlib import Path

import layouts
import numpy as np
import pytest
from layouts import CELEBA_ATTRIBUTES, number_of

from diffae.data import datasets as prepare_module
from diffae.data.build import Building
from diffae.data.datasets import DATA_SETS, prepare
from diffae.data.labels import LabelTable
from diffae.data.pack import Pack
from diffae.errors import DataError

COUNT = 12


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each data set has 12 images."""
    monkeypatch.setattr(
        prepare_module, "DATA_SETS", {name: replace(data, count=COUNT) for name, data in DATA_SETS.items()}
    )


def numbers(pack: Pack) -> list[int]:
    return [number_of(image) for image in pack.fetch(np.arange(len(pack)))]


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def test_counts_are_those_of_the_data_sets() -> None:
    assert {name: data.count for name, data in DATA_SETS.items()} == {
        "ffhq": 70_000, "celeba": 202_599, "celebahq": 30_000, "lsun-horse": 2_000_340, "lsun-bedroom": 3_033_042,
    }  # fmt: skip


FFHQ: dict[str, Callable[[Path], Path]] = {
    "unpacked": lambda top: layouts.ffhq(top, COUNT),
    "the folder of images": lambda top: layouts.ffhq(top, COUNT) / "images1024x1024",
    "thumbnails": lambda top: layouts.ffhq(top, COUNT, "thumbnails128x128"),
    "published": lambda top: layouts.published(top / "ffhq256.lmdb", COUNT, "256-", 5, "JPEG"),
    "published, all data sets": lambda top: layouts.published(top / "ffhq256.lmdb", COUNT, "256-", 5, "JPEG").parent,
}


@pytest.mark.parametrize("layout", FFHQ)
def test_ffhq(tmp_path: Path, layout: str) -> None:
    pack = prepare("ffhq", FFHQ[layout](tmp_path / "in"), tmp_path / "a.pack", size=8)
    assert list(pack.names) == [f"00000/{i:05d}.png" for i in range(COUNT)]
    assert numbers(pack) == list(range(COUNT))
    assert pack.labels is None


CELEBA: dict[str, Callable[[Path], Path]] = {
    "one folder": lambda top: layouts.celeba(top, COUNT),
    "the folder of images": lambda top: layouts.celeba(top, COUNT) / "img_align_celeba",
    "Img and Anno": lambda top: layouts.celeba(top, COUNT, "Img/img_align_celeba", "Anno/list_attr_celeba.txt"),
    "twice nested": lambda top: layouts.celeba(top, COUNT, "img_align_celeba/img_align_celeba"),
    "published": lambda top: layouts.write(
        layouts.published(top / "celeba.lmdb", COUNT, "None-", 7, "WEBP", 178, 218).parent,
        {"celeba_anno/list_attr_celeba.txt": layouts.attributes([f"{i + 1:06d}.jpg" for i in range(COUNT)])},
    ),
}


@pytest.mark.parametrize("layout", CELEBA)
def test_celeba(tmp_path: Path, layout: str) -> None:
    pack = prepare("celeba", CELEBA[layout](tmp_path / "in"), tmp_path / "a.pack", size=64)
    assert list(pack.names) == [f"{i + 1:06d}.jpg" for i in range(COUNT)]
    assert numbers(pack) == list(range(COUNT))
    check_attributes(pack.labels)
    # D2C cuts columns 25 to 153, of which those from 89 on are red: exactly the right half of what remains
    image = pack.fetch(np.array([0]))[0].astype(int)
    assert (image[:, :31, 0] < 40).all()
    assert (image[:, 33:, 0] > 215).all()


def test_celeba_from_a_zip_with_a_csv(tmp_path: Path) -> None:
    names = [f"{i + 1:06d}.jpg" for i in range(COUNT)]
    zipped(
        tmp_path / "img_align_celeba.zip",
        {f"img_align_celeba/{name}": layouts.encoded(i, "JPEG", 178, 218) for i, name in enumerate(names)},
    )
    text = layouts.attributes(names).decode().splitlines()
    rows = ["image_id," + ",".join(text[1].split()), *(",".join(line.split()) for line in text[2:])]
    (tmp_path / "list_attr_celeba.csv").write_text("\n".join(rows) + "\n")
    pack = prepare("celeba", tmp_path, tmp_path / "a.pack", size=16)
    assert [name.rpartition("/")[2] for name in pack.names] == names
    check_attributes(pack.labels)


def check_attributes(labels: LabelTable | None) -> None:
    assert labels is not None
    assert labels.columns[:40] == CELEBA_ATTRIBUTES
    assert {labels.kinds[column] for column in CELEBA_ATTRIBUTES if labels.column(column).any()} == {"binary"}
    wanted = np.zeros((COUNT, 40))
    wanted[np.arange(COUNT), np.arange(COUNT)] = wanted[:, 39] = 1
    seen = np.stack([labels.column(column) for column in CELEBA_ATTRIBUTES], axis=1)
    order = np.argsort([int(name.rpartition("/")[2].partition(".")[0]) for name in labels.names])
    assert np.array_equal(seen[order] == 1, wanted == 1)


CELEBAHQ: dict[str, Callable[[Path], Path]] = {
    "above": lambda top: layouts.write(top, layouts.celebahq_files(COUNT)),
    "inside": lambda top: layouts.write(top, layouts.celebahq_files(COUNT)) / "CelebAMask-HQ",
    "the folder of images": lambda top: (
        layouts.write(top, layouts.celebahq_files(COUNT)) / "CelebAMask-HQ/CelebA-HQ-img"
    ),
    "the archive": lambda top: zipped(top / "CelebAMask-HQ.zip", layouts.celebahq_files(COUNT)),
    "published": lambda top: layouts.write(
        layouts.published(top / "celebahq256.lmdb", COUNT, "256-", 5, "JPEG").parent,
        {
            f"celeba_anno/{name.rpartition('/')[2]}": data
            for name, data in layouts.celebahq_files(COUNT).items()
            if name.endswith(".txt")
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", CELEBAHQ)
def test_celebahq(tmp_path: Path, layout: str) -> None:
    pack = prepare("celebahq", CELEBAHQ[layout](tmp_path / "in"), tmp_path / "a.pack", size=8)
    numbered = [int(name.rpartition("/")[2].removesuffix(".jpg")) for name in pack.names]
    assert sorted(numbered) == list(range(COUNT))  # and no masks
    assert numbers(pack) == numbered
    check_attributes(pack.labels)
    assert pack.labels is not None
    assert pack.labels.columns[40:] == ("Yaw", "Pitch", "Raw")
    assert pack.labels.column("Yaw").tolist() == [-1.5 * i for i in numbered]


LSUN: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "horse": ("lsun-horse", lambda top: layouts.lsun(top / "horse_train_lmdb", COUNT, "WEBP")),
    "horse, above": ("lsun-horse", lambda top: layouts.lsun(top / "horse", COUNT, "JPEG").parent),
    "bedroom": ("lsun-bedroom", lambda top: layouts.lsun(top / "bedroom_train_lmdb", COUNT, "JPEG")),
    "horse, published": ("lsun-horse", lambda top: layouts.published(top / "horse256.lmdb", COUNT, "256-", 7, "WEBP")),
    "bedroom, published": (
        "lsun-bedroom",
        lambda top: layouts.published(top / "bedroom256.lmdb", COUNT, "256-", 7, "WEBP").parent,
    ),
}


@pytest.mark.parametrize("layout", LSUN)
def test_lsun(tmp_path: Path, layout: str) -> None:
    name, make = LSUN[layout]
    (tmp_path / "in").mkdir()
    pack = prepare(name, make(tmp_path / "in"), tmp_path / "a.pack", size=8)
    assert sorted(numbers(pack)) == list(range(COUNT))
    if "published" in layout:
        assert list(pack.names) == [f"256-{i:07d}" for i in range(COUNT)]
    else:
        assert list(pack.names) == sorted(f"{(i * 7919) % 1000:040x}" for i in range(COUNT))
        assert all(
            int(key, 16) == (number * 7919) % 1000 for key, number in zip(pack.names, numbers(pack), strict=True)
        )


def test_other_containers_hold_a_data_set_too(tmp_path: Path) -> None:
    np.save(tmp_path / "ffhq.npy", np.stack([layouts.picture(i) for i in range(COUNT)]))
    with pytest.raises(DataError, match=r"holds 12 images where ffhq has 12, the first missing is 00000/00000\.png"):
        prepare("ffhq", tmp_path / "ffhq.npy", tmp_path / "a.pack", size=8)
    assert len(prepare("lsun-horse", tmp_path / "ffhq.npy", tmp_path / "a.pack", size=8)) == COUNT


def test_missing_images_are_named(tmp_path: Path) -> None:
    source = layouts.ffhq(tmp_path / "in", COUNT)
    (source / "images1024x1024/00000/00007.png").unlink()
    rule = r"holds 11 images where ffhq has 12, the first missing is 00000/00007\.png; get the rest, or .*--incomplete"
    with pytest.raises(DataError, match=rule):
        prepare("ffhq", source, tmp_path / "a.pack", size=8)
    assert not (tmp_path / "a.pack").exists()
    assert len(prepare("ffhq", source, tmp_path / "a.pack", size=8, building=Building(strict=False))) == 11


def test_a_key_missing_from_an_lmdb(tmp_path: Path) -> None:
    entries = {f"256-{i:05d}": layouts.encoded(i) for i in range(COUNT) if i != 3} | {"length": b"12"}
    source = layouts.write_lmdb(tmp_path / "ffhq256.lmdb", entries)
    with pytest.raises(DataError, match=r"00003\.png: is missing from the LMDB \(key 256-00003\)"):
        prepare("ffhq", source, tmp_path / "a.pack", size=8)
    pack = prepare("ffhq", source, tmp_path / "a.pack", size=8, building=Building(strict=False))
    assert numbers(pack) == [0, 1, 2, *range(4, COUNT)]
    assert [name for name, _ in pack.skipped] == ["00000/00003.png"]


def test_a_renumbered_lmdb_gets_no_labels(tmp_path: Path) -> None:
    """The published CelebA LMDB numbers the files that were present, so numbers shift if some were missing."""
    source = layouts.published(tmp_path / "in/celeba.lmdb", 5, "None-", 7, "WEBP", 178, 218)
    layouts.write(
        tmp_path / "in", {"list_attr_celeba.txt": layouts.attributes([f"{i + 1:06d}.jpg" for i in range(12)])}
    )
    assert prepare("celeba", source, tmp_path / "a.pack", size=8, building=Building(strict=False)).labels is None


def test_the_resolution_that_fits(tmp_path: Path) -> None:
    entries = {f"{side}-{i:05d}": layouts.encoded(i, "PNG", side, side) for side in (16, 32, 64) for i in range(COUNT)}
    marked = {**entries, "32-00000": layouts.encoded(20, "PNG", 32, 32), "64-00000": layouts.encoded(25, "PNG", 64, 64)}
    source = layouts.write_lmdb(tmp_path / "ffhq256.lmdb", {**marked, "length": b"12"})
    first = {
        size: numbers(prepare("ffhq", source, tmp_path / f"{size}.pack", size=size))[0] for size in (8, 17, 32, 99)
    }
    assert first == {8: 0, 17: 20, 32: 20, 99: 25}


def test_md5_sums_of_ffhq_are_checked(tmp_path: Path) -> None:
    source = layouts.ffhq(tmp_path / "in", COUNT)
    name = "images1024x1024/00000/00004.png"
    facts = {
        str(i): {
            "category": "training",
            "image": {
                "file_path": f"images1024x1024/00000/{i:05d}.png",
                "file_size": 1,
                "file_md5": md5(layouts.encoded(i)).hexdigest(),
                "face_landmarks": [[1.0, 2.0]],
            },
            "thumbnail": {"file_path": f"thumbnails128x128/00000/{i:05d}.png", "file_md5": "0" * 32},
        }
        for i in range(COUNT)
    }
    (source / "ffhq-dataset-v2.json").write_text(json.dumps(facts))
    assert len(prepare("ffhq", source, tmp_path / "a.pack", size=8)) == COUNT
    (source / name).write_bytes(layouts.encoded(5))  # a good image, but another one
    with pytest.raises(DataError, match=r"00004\.png: has another MD5 sum than ffhq-dataset-v2\.json states"):
        prepare("ffhq", source, tmp_path / "b.pack", size=8)


def test_a_damaged_image_stops_preparing_until_it_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffae.data.build.parallel._CHUNK", 2)
    source = layouts.ffhq(tmp_path / "in", COUNT)
    bad = source / "images1024x1024/00000/00009.png"
    bad.write_bytes(layouts.encoded(9)[:-30])
    with pytest.raises(DataError, match=r"00009\.png: is damaged or truncated"):
        prepare("ffhq", source, tmp_path / "a.pack", size=8, building=Building(1, strict=True))
    assert not (tmp_path / "a.pack").exists()
    bad.write_bytes(layouts.encoded(9))
    read = count_reads(monkeypatch)
    pack = prepare("ffhq", source, tmp_path / "a.pack", size=8, building=Building(1, strict=True))
    assert numbers(pack) == list(range(COUNT))
    assert read == ["00000/00008.png", "00000/00009.png", "00000/00010.png", "00000/00011.png"]
    assert prepare("ffhq", source, tmp_path / "a.pack", size=8).path == pack.path  # complete: nothing is read
    assert len(read) == 4


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images that are decoded from now on."""
    from diffae.data.sources.files import FolderSource

    read, reading = [], FolderSource.read
    monkeypatch.setattr(
        FolderSource, "read", lambda self, index, spec: (read.append(self.names[index]), reading(self, index, spec))[1]
    )
    return read
