"""Hugging Face data sets are read row by row, with their labels, streamed or from the cache."""

from __future__ import annotations

import os
from pathlib import Path

import datasets
import pytest
from layouts import contents, encoded, number_of

from diffae.data.build import build_pack, prepare_pack
from diffae.data.images import ImageSpec
from diffae.data.sources import hub, open_source
from diffae.data.sources.hub import HubSource
from diffae.errors import DataError

SPEC = ImageSpec(channels=3, size=8)


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
def test_rows_and_labels_of_a_data_set(repository: Path, streamed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert contents(stream) == WANTED
    assert contents(stream, 4) == WANTED[4:]
    assert [number for _, number, _ in contents(open_source("hf://owner/name?split=test"))] == [6, 7, 8, 9]
    assert [number for _, number, _ in contents(open_source("hf://owner/name?image=other"))] == [25, 24, 23, 22, 21, 20]


def test_the_pack_of_a_data_set_is_reused(repository: Path, tmp_path: Path) -> None:
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


def test_images_stored_as_paths(repository: Path) -> None:
    """A row may hold the path of a file instead of its bytes."""
    Path("a.png").write_bytes(encoded(7))
    assert number_of(hub._read({"bytes": None, "path": "a.png"}, "a", SPEC)) == 7
    with pytest.raises(DataError, match=r"image b: cannot be read .*; try again"):
        hub._read({"bytes": None, "path": "b.png"}, "b", SPEC)
    with pytest.raises(DataError, match=r"image c: the row holds no image"):
        hub._read(None, "c", SPEC)


def test_invalid_addresses(repository: Path) -> None:
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
