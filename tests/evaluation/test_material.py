"""Which images count as trained on, and which as unseen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffae.data.labels import LabelTable
from diffae.data.pack import Pack
from diffae.errors import DataError
from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.material import divided, given
from diffae.training.held_out import held_out
from diffae.training.settings import TrainingConfig

COUNT = 60
TRAINING = TrainingConfig(val_images=20)


def test_unseen_images_that_were_trained_on_are_refused(context: EvaluationContext) -> None:
    train, test = context.train.pack, context.test.pack
    with pytest.raises(DataError, match=r"48 of 48 unseen images are among the images of training"):
        given(test, test, None, TrainingConfig())
    seen, unseen = given(train, test, None, TrainingConfig())
    assert sorted(unseen.rows.tolist()) == list(range(48)) != unseen.rows.tolist()  # files are often sorted
    assert len(seen) == 120


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 3), dtype=np.uint8)
    return Pack.from_arrays([pixels], tmp_path / "noise.pack")


def splits(pack: Pack, test: np.ndarray, path: Path) -> LabelTable:
    """A table whose column "split" says that these rows are the test images."""
    split = np.where(np.isin(np.arange(COUNT), test), "test", "train")
    path.write_text("file,split\n" + "".join(f"{name},{part}\n" for name, part in zip(pack.names, split, strict=True)))
    return LabelTable.read(path)


def test_images_that_were_trained_on_are_never_unseen(pack: Pack, tmp_path: Path) -> None:
    _, kept = held_out(pack, TRAINING)
    half = np.arange(0, COUNT, 2)
    _, test = given(pack, None, splits(pack, half, tmp_path / "labels.csv"), TRAINING, pack.index["key"] or "")
    assert set(test.rows) == set(half)  # a pack without a key is not known to be that of the training
    pack.index = {**pack.index, "key": "1234"}
    _, test = given(pack, None, splits(pack, half, tmp_path / "labels.csv"), TRAINING, "1234")
    assert set(test.rows) == set(half) & set(kept)
    _, test = given(pack, None, splits(pack, half, tmp_path / "labels.csv"), TRAINING, "another")
    assert set(test.rows) == set(half)


def test_a_split_of_trained_images_alone_is_refused(pack: Pack, tmp_path: Path) -> None:
    trained, _ = held_out(pack, TRAINING)
    pack.index = {**pack.index, "key": "1234"}
    with pytest.raises(DataError, match="all images of 'test' were trained on; name images that were not by --unseen"):
        given(pack, None, splits(pack, trained[:10], tmp_path / "labels.csv"), TRAINING, "1234")


def test_images_are_divided_before_a_training_by_their_split_or_one_in_ten(tmp_path: Path) -> None:
    pack = Pack.from_arrays([np.zeros((40, 8, 8, 3), np.uint8)], tmp_path / "all.pack")
    train, test = divided(pack, None, most=2_000)
    assert (len(train), len(test)) == (36, 4)
    assert len(divided(pack, None, most=3)[1]) == 3
    assert {*train.rows} & {*test.rows} == set()
    split = np.arange(40) % 4 // 2  # train, train, test, test, ...
    labels = LabelTable(tuple(pack.names), ("split",), split[:, None].astype(float), {"split": "class"},
                        {"split": ("train", "test")})  # fmt: skip
    train, test = divided(pack, labels, most=3)
    assert test.rows.tolist() == [row for row in range(40) if row % 4 >= 2]
    copy = test.to_pack(tmp_path / "test.pack")
    assert list(copy.names) == [pack.names[row] for row in test.rows]
