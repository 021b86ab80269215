"""Which images are trained on, and which validate."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffae.data.build import build_pack
from diffae.data.image_set import ImageSet
from diffae.data.sources import divided
from diffae.errors import DataError
from diffae.training.held_out import held_out
from diffae.training.settings import TrainingConfig

CONFIG = TrainingConfig(val_images=4)


@dataclass
class Named(ImageSet):
    """Images with names and a label "split"."""

    count: int
    divided: dict[str, np.ndarray] = field(default_factory=dict)
    index: Any = None

    def __post_init__(self) -> None:
        self.names = [f"{number}.png" for number in range(self.count)]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.count, 8, 8, 3

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8)

    def fetch(self, indices: np.ndarray) -> np.ndarray:
        return np.zeros((len(indices), 8, 8, 3), np.uint8)

    @property
    def parts(self) -> dict[str, np.ndarray]:
        return self.divided


def test_without_labels_at_most_a_tenth_is_held_out() -> None:
    train, val = held_out(Named(100), CONFIG)
    assert sorted([*train, *val]) == list(range(100))
    assert len(val) == 4
    assert len(held_out(Named(20), CONFIG)[1]) == 2


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_the_label_split_decides(name: str) -> None:
    parts = {"test": np.arange(40, 60), "train": np.arange(40), name: np.arange(60, 100)}
    train, val = held_out(Named(100, parts), CONFIG)
    assert list(train) == list(range(40))
    assert len(val) == 4
    assert set(val) <= set(range(60, 100))


def test_without_a_part_to_validate_on_some_of_train_are_held_out() -> None:
    train, val = held_out(Named(100, {"train": np.arange(50, 100), "test": np.arange(50)}), CONFIG)
    assert sorted([*train, *val]) == list(range(50, 100))
    assert 2 <= len(val) <= 4


def test_labels_of_other_classes_mean_nothing() -> None:
    plain, labelled = (held_out(Named(100, parts), CONFIG) for parts in ({}, {"a": np.arange(5), "b": np.arange(5, 9)}))
    np.testing.assert_array_equal(plain[0], labelled[0])


def test_too_few_to_train_on() -> None:
    with pytest.raises(DataError, match="9 images are too few to train on: give at least 10"):
        held_out(Named(100, {"train": np.arange(9)}), CONFIG)


def test_a_pack_of_divided_images(tmp_path: Path) -> None:
    np.save(
        tmp_path / "images.npy", np.arange(30, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    )
    rows = [f"{k:08d},{'train' if k % 2 else 'test'}" for k in range(30)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,split", *rows]) + "\n")
    source = divided(tmp_path / "images.npy", tmp_path / "labels.csv")
    pack = build_pack(source, tmp_path / "cache", size=8)
    train, val = held_out(pack, CONFIG)
    assert {int(value) % 2 for value in pack.fetch(np.concatenate([train, val]))[:, 0, 0, 0]} == {1}
    (tmp_path / "labels.csv").write_text("\n".join(["file,split", *rows[1:], "00000000,train"]) + "\n")
    again = build_pack(divided(tmp_path / "images.npy", tmp_path / "labels.csv"), tmp_path / "cache", size=8)
    assert again.split_digest() != pack.split_digest()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,age\na.png,4\n", "the column 'split' does not exist; mark the images to train on by 'train'"),
        ("file,split\na.png,one\nb.png,two\n", "the column 'split' has one, two; mark"),
    ],
)
def test_labels_that_divide_nothing(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    np.save(tmp_path / "images.npy", np.zeros((3, 8, 8, 3), np.uint8))
    with pytest.raises(DataError, match=message):
        divided(tmp_path / "images.npy", tmp_path / "labels.csv")
