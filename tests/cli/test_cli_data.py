"""Packs from the command line: made, looked into, trained on; and a training from every container of images."""

from __future__ import annotations

import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import datasets
import lmdb
import numpy as np
import pytest
from cli_helpers import TINY_TRAINING, Run, one_line
from PIL import Image

from diffae import checkpoint
from diffae.data import datasets as prepare
from diffae.data.pack import Pack

COUNT = 12


def encoded(number: int, width: int = 16, height: int = 16, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (20 * number, 255 - 20 * number, 90)).save(buffer, kind)
    return buffer.getvalue()


def folder() -> str:
    Path("photos/more").mkdir(parents=True)
    for i in range(COUNT):
        Path("photos", "more" * (i > 5), f"{i:04d}.jpg").write_bytes(encoded(i, 20, 16, "JPEG"))
    return "photos"


def archive() -> str:
    with zipfile.ZipFile("photos.zip", "w") as file:
        for i in range(COUNT):
            file.writestr(f"{i:04d}.png", encoded(i))
    return "photos.zip"


def arrays() -> np.ndarray:
    return np.stack([np.asarray(Image.open(io.BytesIO(encoded(i)))) for i in range(COUNT)])


def array() -> str:
    np.save("photos.npy", arrays())
    return "photos.npy"


def packed_arrays() -> str:
    np.savez("photos.npz", others=np.zeros(3), images=arrays())
    return "photos.npz"


def write_lmdb(path: str, entries: dict[str, bytes]) -> str:
    with lmdb.open(path, map_size=2**24) as environment, environment.begin(write=True) as transaction:
        for key, value in entries.items():
            transaction.put(key.encode(), value)
    return path


def lsun(kind: str = "WEBP") -> str:
    return write_lmdb("bedroom_train_lmdb", {f"{i:040x}": encoded(i, 20, 16, kind) for i in range(COUNT)})


def published() -> str:
    images = {f"256-{i:07d}": encoded(i, kind="WEBP") for i in range(COUNT)}
    return write_lmdb("horse256.lmdb", {**images, "length": str(COUNT).encode()})


def shards() -> str:
    Path("shards").mkdir()
    for shard in range(2):
        with tarfile.open(f"shards/{shard}.tar", "w") as archive:
            for i in range(shard * 6, shard * 6 + 6):
                for suffix, data in (("png", encoded(i)), ("cls", b"%d" % (i % 3))):
                    info = tarfile.TarInfo(f"{i:04d}.{suffix}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    return "shards/{0..1}.tar"


def published_data_set() -> str:
    """owner/name in the current folder, which the datasets library prefers to the Hub's."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    rows = [{"image": {"bytes": encoded(i), "path": None}, "label": i % 2} for i in range(COUNT)]
    Path("owner/name").mkdir(parents=True)
    datasets.Dataset.from_list(rows, features=features).to_parquet("owner/name/train.parquet")
    return "hf://owner/name"


CONTAINERS: dict[str, Callable[[], str]] = {
    "folder": folder, "zip": archive, "npy": array, "npz": packed_arrays,
    "LSUN": lsun, "published LMDB": published, "WebDataset": shards, "Hub": published_data_set,
}  # fmt: skip


@pytest.mark.parametrize("container", CONTAINERS)
def test_two_steps_of_training_from_every_container(run: Run, container: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", Path("hub").absolute())
    source = CONTAINERS[container]()
    code, out, err = run("train", source, "--out", "run", *TINY_TRAINING, "--cache", "packs")
    assert code == 0, err
    example = "photos/0000.jpg" if container == "folder" else "a.png"
    assert f"diffae reconstruct run {example}" in out
    data = checkpoint.read_config(Path("run"))["data"]
    assert data["count"] == COUNT
    [pack] = Path("packs").glob("*.pack")
    numbers = [round(image[..., 0].mean() / 20) for image in Pack.open(pack).fetch(np.arange(COUNT))]
    assert numbers == list(range(COUNT))


@pytest.mark.parametrize("container", ["WebDataset", "Hub"])
def test_later_commands_find_the_images_of_the_training(
    run: Run, container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though they are no file or folder."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", Path("hub").absolute())
    assert run("train", CONTAINERS[container](), "--out", "run", *TINY_TRAINING)[0] == 0
    code, _, err = run("train-prior", "run", "--layers", "2", "--hidden-channels", "8", "--codes", "64")
    assert code == 0, err
    shutil.rmtree("shards" if container == "WebDataset" else "owner")
    code, _, err = run("train-prior", "run", "--resume")
    assert code == 2
    assert ("which is not there" if container == "WebDataset" else "images hf:/owner/name: cannot be") in one_line(err)


@pytest.fixture
def celeba(run: Run, monkeypatch: pytest.MonkeyPatch) -> str:
    """CelebA of 12 images, in the current folder."""
    monkeypatch.setitem(prepare.DATA_SETS, "celeba", replace(prepare.DATA_SETS["celeba"], count=COUNT))
    Path("celeba/img_align_celeba").mkdir(parents=True)
    rows = [f"{COUNT}", "Male Smiling Young"]
    for i in range(COUNT):
        name = f"{i + 1:06d}.jpg"
        Path("celeba/img_align_celeba", name).write_bytes(encoded(i, 178, 218, "JPEG"))
        rows.append(f"{name} {1 if i < 3 else -1}  1 {1 if i % 2 else -1}")
    Path("celeba/list_attr_celeba.txt").write_text("\n".join(rows) + "\n")
    return "celeba"


def test_a_data_set_is_prepared_looked_into_and_trained_on(run: Run, celeba: str) -> None:
    prepare = ("data", "prepare", "celeba", celeba, "--size", "8", "--out", "packs/celeba.pack")
    code, out, _ = run(*prepare)
    assert code == 0
    assert "12 images of 8 x 8 x 3 are in packs/celeba.pack." in out
    assert "Labels of each: Male, Smiling, Young." in out
    assert run(*prepare)[1] == out  # it is there already
    code, out, _ = run("data", "info", "packs/celeba.pack")
    assert code == 0
    shown = {line.split("  ")[0].strip(): line.split("  ", 1)[1].strip() for line in out.splitlines() if line.strip()}
    for name, value in {
        "images": "12 images of 8 x 8 x 3, uint8", "names": "000001.jpg to 000012.jpg", "crop": "celeba",
        "source": "celeba: img_align_celeba", "held out": "1 image in training, by their names",
        "labels": "3 for each image", "left out": "0 images that could not be read",
    }.items():  # fmt: skip
        assert shown[name] == value
    assert "Male" in out
    assert "binary, true for 25.0%" in out
    assert run("data", "browse", "packs/celeba.pack", "--out", "sheet.png", "--columns", "4", "--label", "Male")[0] == 0
    with Image.open("sheet.png") as sheet:
        assert sheet.width == 4 * (128 + 8) + 8
        assert sheet.height > 3 * 128
    code, _, err = run("train", "packs/celeba.pack", "--crop", "celeba", "--out", "run", *TINY_TRAINING)
    assert code == 0, err
    assert checkpoint.read_model_config(Path("run")).input.crop == "celeba"


@pytest.mark.parametrize("container", CONTAINERS)
def test_any_images_are_prepared(run: Run, container: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", Path("hub").absolute())
    words = ("--size", "8", "--out", "any.pack", "--crop", "0,0,16,16")
    code, out, err = run("data", "prepare", "images", CONTAINERS[container](), *words)
    assert code == 0, err
    labels = {"WebDataset": "class", "Hub": "label"}.get(container)
    assert (f"Labels of each: {labels}." if labels else "any.pack") in out
    code, out, _ = run("data", "info", "any.pack")
    assert code == 0
    assert "0, 0, 16, 16" in out
    assert ("class: dog 6, cat 6" in out) == (container == "Hub")
    assert run("data", "browse", "any.pack", "--out", "sheet.png")[0] == 0


def test_sheets_of_images_that_are_not_rgb(run: Run) -> None:
    for channels, dtype in ((1, np.uint8), (2, np.uint16), (5, np.uint8)):
        pixels = np.full((3, 8, 8, channels), np.iinfo(dtype).max, dtype)
        Pack.from_arrays([pixels], f"{channels}.pack")
        assert run("data", "browse", f"{channels}.pack", "--out", f"{channels}.png")[0] == 0
        with Image.open(f"{channels}.png") as sheet:
            assert sheet.getpixel((20, 20)) == (255, 255, 255)


def test_no_labels_are_missed_aloud(run: Run, celeba: str) -> None:
    Path("celeba/list_attr_celeba.txt").unlink()
    code, _, err = run("data", "prepare", "celeba", celeba, "--size", "8", "--out", "a.pack")
    assert code == 0
    assert "no labels: put the attribute file" in err


BAD = [
    (("prepare", "celeba", "nowhere", "--size", "8", "--out", "a.pack"), "images nowhere: there is no such file"),
    (("prepare", "celeba", "celeba", "--size", "0", "--out", "a.pack"), "size is 0"),
    (("prepare", "celeba", "celeba", "--size", "8", "--out", "full"), "full: exists already"),
    (("prepare", "celeba", "celeba", "--size", "8", "--out", "a.pack", "--workers", "0"), "workers is 0: must be"),
    (("prepare", "celeba", "celeba", "--size", "8", "--out", "a.pack", "--crop", "0,0,8,8"), "left out for celeba"),
    (
        ("prepare", "celeba", "celeba", "--size", "8", "--out", "a.pack", "--window", "auto"),
        "window is 'auto': must be",
    ),
    (("prepare", "images", "celeba", "--size", "8", "--out", "a.pack", "--window", "5"), "window is '5': must be auto"),
    (("prepare", "celeba", "small", "--size", "8", "--out", "a.pack"), "the crop (25, 57, 153, 185) must lie inside"),
    (("prepare", "celeba", "few", "--size", "8", "--out", "a.pack"), "the first missing is 000002.jpg; get the rest"),
    (("prepare", "lsun-horse", "celeba", "--size", "8", "--out", "a.pack"), "holds 12 images where lsun-horse has 2,0"),
    (("prepare", "images", "hf://no/thing", "--size", "8", "--out", "a.pack"), "images hf:/no/thing: cannot be read"),
    (("prepare", "images", "bad.tar", "--size", "8", "--out", "a.pack"), "bad.tar: is not a complete tar archive"),
    (("prepare", "images", "bad.lmdb", "--size", "8", "--out", "a.pack"), "bad.lmdb: is not a complete LMDB"),
    (("info", "celeba"), "pack celeba: cannot be read"),
    (("browse", "good.pack", "--out", "a.txt"), "the suffix must be one of"),
    (("browse", "good.pack", "--out", "a.png", "--count", "0"), "count is 0: must be at least 1"),
    (("browse", "good.pack", "--out", "a.png", "--label", "age"), "good.pack: has no labels"),
]


@pytest.mark.parametrize(("words", "message"), BAD)
def test_bad_input(run: Run, celeba: str, words: tuple[str, ...], message: str) -> None:
    for folder, count, size in (("small", COUNT, (64, 64)), ("few", 1, (178, 218))):
        Path(folder).mkdir()
        for i in range(count):
            Path(folder, f"{i + 1:06d}.jpg").write_bytes(encoded(i, *size, "JPEG"))
    Path("full").mkdir()
    Path("bad.tar").write_bytes(b"hello" * 300)
    Path("bad.lmdb").write_bytes(b"hello" * 3000)
    Pack.from_arrays([np.zeros((2, 8, 8, 3), np.uint8)], "good.pack")
    code, out, err = run("data", *words)
    assert code == 2
    assert message in one_line(err)
    assert out == ""
    assert not Path("a.pack").exists()
    assert not Path("a.png").exists()


def test_labels_that_are_read_otherwise_than_written_are_reported(run: Run) -> None:
    with tarfile.open("mixed.tar", "w") as archive:
        for i in range(COUNT):
            for suffix, data in (("png", encoded(i)), ("cls", b"cat" if i % 2 else b"7")):
                info = tarfile.TarInfo(f"{i:04d}.{suffix}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    code, out, err = run("data", "prepare", "images", "mixed.tar", "--size", "8", "--out", "mixed.pack")
    assert code == 0, err
    assert "diffae: warning: labels" in err
    assert "column 'class' holds 'cat' among numbers; all are read as names of classes" in err
    code, out, _ = run("data", "info", "mixed.pack")
    assert code == 0
    assert "cat" in out
